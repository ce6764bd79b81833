"""The layers of the sandbox for programs, and the levels that they make up, weakest first.

`namespaces` has all of them; without bubblewrap or user namespaces `landlock` does without; where
there is no Landlock either, `seccomp` closes the file system by letting nothing be opened (so that
only modules imported beforehand can be had); `none` has limits and a deadline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

LEVELS = ("none", "seccomp", "landlock", "namespaces")

Level = Literal["none", "seccomp", "landlock", "namespaces"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What stands between a program and the machine.

    Attributes:
        namespaces: Own process, mount, network, IPC, UTS and user namespace; a read-only root that
            holds Python and its libraries; no /proc.
        landlock: Reads Python and its libraries, writes nothing, no TCP.
        seccomp: An allow-list of system calls; `closed` lacks `open`.
        user: Another user than the server's where the server is root, and no capabilities.
        limits: Address space, processor time, files, threads.
    """

    namespaces: bool = True
    landlock: bool = True
    seccomp: Literal["", "open", "closed"] = "open"
    user: bool = True
    limits: bool = True


LAYERS_OF_LEVEL: Mapping[str, Layers] = {
    "namespaces": Layers(),
    "landlock": Layers(namespaces=False),
    "seccomp": Layers(namespaces=False, landlock=False, seccomp="closed"),
    "none": Layers(namespaces=False, landlock=False, seccomp=""),
}
