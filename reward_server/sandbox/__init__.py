"""A small jail for worker processes that hand a model's text to an evaluating scorer.

`jail.enter()` locks up the calling process for good: no new privileges; Landlock, so that it reads
nothing but Python's own files and writes nothing; TCP denied; seccomp, so that it starts no
process, opens no socket and signals nobody else; no core dumps, no file growth. It is built from
system calls by ctypes and needs neither root nor a namespace. `probe.probe()` tries it out in a
child and says what really held: level `landlock+seccomp`, `landlock`, or `none`.

What it does not cover: a payload can still burn its processor share until the deadline, read the
worker's own memory (the reference answer of the rollout at hand included), and forge the reward of
this and of later answers in the same worker; expected outputs of programming problems must
therefore never enter such a process. Without seccomp, UDP, fork and (Landlock ABI < 6) signals
stay open. The kernel itself is not shielded: this is no virtual machine.
"""
