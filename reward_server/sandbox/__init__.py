"""Two enclosures for what a model wrote, built from system calls; neither needs root.

`jail.enter()` locks up the calling worker process for good, where a scorer evaluates an answer:
Landlock (reads Python's own files, writes nothing, no TCP), a seccomp deny-list (starts no process,
opens no socket, signals nobody), limits. A payload can still read that worker's memory, the
reference answer included. `probe.probe()` says what really held.

`runner.Sandbox` runs programs: a warm zygote (`zygote`) inside bubblewrap's namespaces
(`bubblewrap`) forks one locked-up process per test (`child`, which then does what `execute` or
`harness` says), under a seccomp allow-list (`allowed`). It has the streams of a script (`streams`);
what comes out is bytes and JSON (`values`, `report`). `levels` names what remains where a machine
lacks a layer, `measure` finds the level by attacking. The threat model is in
`reward_server/README.md`.
"""
