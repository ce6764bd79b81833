"""Attacks on the machine: each prints THROUGH, or leaves a trace outside, if it gets through.

None does harm where it succeeds (layers are switched off to see what each is for): a module of Python
is only opened for writing, processes are only asked for, with signal 0. Capitals stand for what the attacked side has prepared: SECRET (a readable file with TOKEN in it),
FOLDER (writable by all) with VICTIM in it, PORT and UDP (listening), UNIX and ABSTRACT (sockets),
PARENT (a process of the trusted side).
"""

from __future__ import annotations

from dataclasses import dataclass

CALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    assert result >= 0, ctypes.get_errno()
    return result
"""


@dataclass(frozen=True, slots=True)
class Attack:
    """A program and what it must not be able to do.

    Attributes:
        group: secrets, writes, network, kernel, resources or forged.
        what: The property, as what would be a failure.
        source: The program.
        at_least: The weakest level that is to stop it.
        architecture: The machine whose system calls it makes by number; empty for any.
    """

    group: str
    what: str
    source: str
    at_least: str = "seccomp"
    architecture: str = ""


def _x86(group: str, what: str, source: str) -> Attack:
    return Attack(group, what, CALL + source + "\nprint('THROUGH')", architecture="x86_64")


def _plain(group: str, what: str, source: str, at_least: str = "seccomp") -> Attack:
    return Attack(group, what, source + "\nprint('THROUGH')", at_least)


SECRETS = (
    _plain("secrets", "reads a file of the server", "print(open('SECRET').read())"),
    _plain("secrets", "reads the list of users", "open('/etc/passwd').read()"),
    _plain("secrets", "asks the system for its users", "import pwd; assert pwd.getpwall()"),
    _plain("secrets", "reads the server's environment", "open('/proc/PARENT/environ').read()"),
    _plain("secrets", "has the server's environment", "import os; assert len(os.environ)"),
    _plain("secrets", "reads the C library's environment",
           "import ctypes; g = ctypes.CDLL(None).getenv; g.restype = ctypes.c_char_p\n"
           "assert g(b'OAPL_SECRET') or g(b'HOME') or g(b'PATH')"),
    _plain("secrets", "lists the server's home", "import os; os.listdir('/root/..')\n"
           "assert os.listdir(os.path.expanduser('~root'))"),
    _plain("secrets", "inherits a descriptor",
           "import os\nfor n in range(5, 1024):\n try: os.fstat(n)\n except OSError: continue\n"
           " break\nelse: raise SystemExit"),
    _plain("secrets", "reads the zygote's memory", "import os; open(f'/proc/{os.getppid()}/mem')"),
    _plain("secrets", "sees other processes",
           "import os; assert any(p.isdigit() for p in os.listdir('/proc'))"),
    _plain("secrets", "learns that a process exists",
           "import os; os.stat('/proc/PARENT')", at_least="namespaces"),
    _plain("secrets", "learns that a file exists", "import os; os.stat('SECRET')",
           at_least="namespaces"),
    _plain("secrets", "learns the machine's name",
           "import os; assert os.uname().nodename == 'HOSTNAME'", at_least="namespaces"),
    _plain("secrets", "reads the project's own files",
           "open('ROOT/oapl/records.py').read()"),
    _plain("secrets", "finds the program that ran before it",
           "import gc\na, b = 'MARK', 'ER'\n"
           "assert any(a + b in repr(o)[:5000] for o in gc.get_objects())"),
    _plain("secrets", "reads what its descriptors lead to",
           "import os\nfor n in os.listdir('/proc/self/fd'): print(os.readlink('/proc/self/fd/' + n))"),
    _plain("secrets", "follows a link to a secret",
           "import os; os.symlink('SECRET', 'FOLDER/link'); print(open('FOLDER/link').read())"),
    _x86("secrets", "reads the zygote's memory by system call",
         "import os\nb = ctypes.create_string_buffer(64)\n"
         "iov = (ctypes.c_void_p * 2)(ctypes.addressof(b), 64)\n"
         "call(310, os.getppid(), iov, 1, iov, 1, 0)"),
    _x86("secrets", "traces the zygote", "import os; call(101, 16, os.getppid(), 0, 0)"),
    _x86("secrets", "opens a file by its handle", "call(304, 3, ctypes.create_string_buffer(64), 0)"),
)  # fmt: skip

WRITES = (
    _plain("writes", "writes a file", "open('FOLDER/new', 'w').write('x')"),
    _plain("writes", "appends to a file", "open('VICTIM', 'a').write('x')"),
    _plain("writes", "truncates a file", "import os; os.truncate('VICTIM', 0)"),
    _plain("writes", "deletes a file", "import os; os.unlink('VICTIM')"),
    _plain("writes", "renames a file", "import os; os.rename('VICTIM', 'FOLDER/other')"),
    _plain("writes", "makes a folder", "import os; os.mkdir('FOLDER/new')"),
    _plain("writes", "makes a link", "import os; os.symlink('/etc', 'FOLDER/new')"),
    _plain("writes", "makes a hard link", "import os; os.link('VICTIM', 'FOLDER/new')"),
    _plain("writes", "makes a named pipe", "import os; os.mkfifo('FOLDER/new')"),
    _plain("writes", "changes a file's rights", "import os; os.chmod('VICTIM', 0o600)"),
    _plain("writes", "changes a file's times", "import os; os.utime('VICTIM', (1, 1))"),
    _plain("writes", "sets an attribute", "import os; os.setxattr('VICTIM', 'user.x', b'x')"),
    _plain("writes", "leaves a file in /tmp", "open('/tmp/oapl-attack', 'w').write('x')"),
    _plain("writes", "leaves a file in shared memory", "open('/dev/shm/oapl-attack', 'w').write('x')"),
    _plain("writes", "poisons a module of Python",
           "import bisect; open(bisect.__file__, 'a')"),
    _plain("writes", "leaves a note for the next program",
           "import sys, builtins\nassert hasattr(builtins, 'note') or setattr(builtins, 'note', 1)"),
    _plain("writes", "changes the program that the next test runs",
           "import os\nfor n in range(3, 32):\n try: os.pwrite(n, b'x', 0)\n"
           " except OSError: pass\n else:\n  if n != 4: break\nelse: raise SystemExit"),
)  # fmt: skip

NETWORK = (
    _plain("network", "connects to a server",
           "import socket; socket.create_connection(('127.0.0.1', PORT), 2)"),
    _plain("network", "sends a datagram",
           "import socket; s = socket.socket(2, 2); s.sendto(b'x', ('127.0.0.1', UDP))"),
    _plain("network", "listens on a port",
           "import socket; socket.create_server(('127.0.0.1', 0))"),
    _plain("network", "connects to a socket in the file system",
           "import socket; s = socket.socket(1); s.connect('UNIX')"),
    _plain("network", "connects to an abstract socket",
           "import socket; s = socket.socket(1); s.connect('\\0ABSTRACT')"),
    _plain("network", "sends to an abstract socket from a pair",
           "import socket; a, b = socket.socketpair(1, 2); a.connect('\\0ABSTRACT.dgram')"),
    _plain("network", "speaks to the hypervisor",
           "import socket; s = socket.socket(40, 1); s.settimeout(2); s.connect((2, 1))"),
    _plain("network", "asks the kernel for its routes", "import socket; socket.socket(16, 3, 0)"),
    _plain("network", "opens a raw socket", "import socket; socket.socket(2, 3, 1)"),
    _plain("network", "looks up a name",
           "import socket; socket.getaddrinfo('localhost', 80); socket.socket()"),
)  # fmt: skip

KERNEL = (
    _x86("kernel", "makes namespaces", "call(272, 0x10000000 | 0x20000)"),
    _x86("kernel", "enters a namespace", "call(308, 0, 0)"),
    _x86("kernel", "mounts", "call(165, b'none', b'/', b'tmpfs', 0, 0)"),
    _x86("kernel", "changes its root", "call(161, b'/')"),
    _x86("kernel", "asks to be traced", "call(101, 0, 0, 0, 0)"),
    _x86("kernel", "loads BPF", "call(321, 0, ctypes.create_string_buffer(b'\\1\\0\\0\\0\\4\\0\\0\\0'"
         "b'\\4\\0\\0\\0\\4\\0\\0\\0', 72), 72)"),
    _x86("kernel", "counts events",
         "call(298, ctypes.create_string_buffer(b'\\1\\0\\0\\0\\160\\0\\0\\0', 128), 0, -1, -1, 0)"),
    _x86("kernel", "handles page faults", "call(323, 1)"),
    _x86("kernel", "sets up io_uring", "call(425, 4, ctypes.create_string_buffer(120))"),
    _x86("kernel", "stores a key", "call(248, b'user', b'x', b'x', 1, -3)"),
    _x86("kernel", "opens a process", "import os; call(434, os.getppid(), 0)"),
    _x86("kernel", "makes a file in memory", "call(319, b'x', 0)"),
    _x86("kernel", "loads a module", "call(175, b'', 0, b'')"),
    _x86("kernel", "changes its execution domain", "call(135, 0x0400000)"),
    _x86("kernel", "installs a filter of its own",
         "libc.prctl(38, 1, 0, 0, 0)\nf = ctypes.create_string_buffer(b'\\6\\0\\0\\0\\0\\0\\377\\177', 8)\n"
         "import struct\ncall(317, 1, 0, struct.pack('@HP', 1, ctypes.addressof(f)))"),
    _x86("kernel", "becomes readable to others", "call(157, 4, 1, 0, 0, 0)"),
    _x86("kernel", "makes a 32-bit system call",
         "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\n"
         "m.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n"
         "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n"
         "assert f() > 0"),
    _x86("kernel", "makes an x32 system call", "call(0x40000000 + 39)"),
    _x86("kernel", "has itself signalled for by the kernel",
         "import fcntl, os, socket\na, b = socket.socketpair()\n"
         "fcntl.fcntl(a, 10, 9); fcntl.fcntl(a, 8, os.getppid())\n"
         "fcntl.fcntl(a, 4, fcntl.fcntl(a, 3) | 0o20000); b.send(b'x')"),
    _plain("kernel", "becomes root", "import os; os.setuid(0); os.setgid(0); open('/etc/shadow')"),
    _plain("kernel", "starts a program", "import os; os.execv('/bin/true', ['true'])"),
    _plain("kernel", "starts a shell", "import subprocess; subprocess.run(['/bin/sh', '-c', 'true'])"),
    _plain("kernel", "forks", "import os\nif os.fork() == 0: os._exit(0)"),
    _plain("kernel", "signals the zygote", "import os; os.kill(os.getppid(), 0)"),
    _plain("kernel", "signals everybody", "import os; os.kill(-1, 0)"),
    _plain("kernel", "kills the server", "import os; os.kill(PARENT, 0)"),
)  # fmt: skip

RESOURCES = (
    _plain("resources", "takes 4 GiB", "bytearray(4 << 30)"),
    _plain("resources", "takes memory by and by",
           "a = []\nfor _ in range(40): a.append(bytearray(100 << 20))"),
    _plain("resources", "takes memory outside its address space",
           "import os\nfor _ in range(200):\n f = os.memfd_create('x'); os.truncate(f, 0)\n"
           " os.write(f, b'x' * (1 << 20))"),
    _plain("resources", "takes shared memory",
           "import ctypes; assert ctypes.CDLL(None).shmget(0, 1 << 26, 0o1600) >= 0"),
    _plain("resources", "starts a thousand threads",
           "import threading, time\nthreading.stack_size(65536)\n"
           "t = [threading.Thread(target=time.sleep, args=(0.3,)) for _ in range(1000)]\n"
           "[x.start() for x in t]"),
    _plain("resources", "opens a thousand files",
           "a = [open('/dev/null') for _ in range(1000)]"),
    _plain("resources", "lifts its limits",
           "import resource; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
           "bytearray(4 << 30)"),
    _plain("resources", "locks memory",
           "import ctypes; b = bytearray(1 << 24)\n"
           "p = (ctypes.c_char * len(b)).from_buffer(b)\n"
           "assert ctypes.CDLL(None).mlock(p, len(b)) == 0"),
    _plain("resources", "raises its priority", "import os; os.setpriority(0, 0, -5)"),
    _plain("resources", "outlives its deadline as a daemon",
           "import os, time\nif os.fork() == 0:\n os.setsid(); time.sleep(3); os._exit(0)"),
    Attack("resources", "loops for ever", "while True: pass"),
    Attack("resources", "sleeps for ever", "import time; time.sleep(1e6)"),
    Attack("resources", "hangs in C", "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')"),
    Attack("resources", "refuses to be ended",
           "import signal\nfor n in range(1, 65):\n try: signal.signal(n, signal.SIG_IGN)\n"
           " except (OSError, ValueError): pass\nwhile True:\n try: 1 + 1\n except: pass"),
    Attack("resources", "stops itself", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"),
    Attack("resources", "never ends its threads",
           "import threading\nfor _ in range(8): threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()"),
    Attack("resources", "writes without end", "while True: print('x' * 100000)"),
    Attack("resources", "floods its report", "import os\nwhile True: os.write(4, b'x' * 65536)"),
    Attack("resources", "closes all its descriptors and stays",
           "import os, time\nos.closerange(0, 64)\ntime.sleep(1e6)"),
    Attack("resources", "crashes Python", "import ctypes; ctypes.string_at(0)"),
    Attack("resources", "overflows the stack of C",
           "import sys; sys.setrecursionlimit(10**9)\nclass A:\n def __repr__(s): return repr(s)\nrepr(A())"),
    Attack("resources", "is hard to compile", "x = " + "(" * 90 + "1" + ")" * 90 + "\n"
           + "x = " + "-" * 60000 + "1"),
    Attack("resources", "computes a tower of powers", "print(9 ** 9 ** 9 ** 9)"),
    Attack("resources", "hangs at its end",
           "import atexit\n@atexit.register\ndef _():\n while True: pass"),
)  # fmt: skip

ALL = (*SECRETS, *WRITES, *NETWORK, *KERNEL, *RESOURCES)
