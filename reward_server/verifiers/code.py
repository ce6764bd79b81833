"""Programs, judged by running their tests in the sandbox: the share of tests passed.

The last fenced block after `</think>` is run once per test, each time in a process of its own
(`reward_server.sandbox`), which is given its input and nothing else. Expected outputs stay in this
process, where no program's text is ever compiled, and are compared with what came out as plain
data. Tests that are Python themselves run in a second sandboxed process, which calls the program
in the first. All tests are run; a program that does not compile, and one that takes longer than
`total_s` over all its tests, gets 0 (ProRL, arXiv 2507.12507, section 2.1).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from oapl.config.fields import section
from oapl.errors import InputError
from oapl.records import Prompt, Rollout, Verdict, VerdictKind
from reward_server.programs import compare, extract, problem
from reward_server.programs.problem import CallTest, ProgramTests
from reward_server.sandbox import measure, values
from reward_server.sandbox.command import Bounds, locate
from reward_server.sandbox.levels import LAYERS_OF_LEVEL
from reward_server.sandbox.runner import Ending, Sandbox, SandboxError
from reward_server.verifiers import base

MIB = 2**20
LEAST_OUTPUT = MIB
SLACK_S = 5.0  # of the worker's own deadline: starting a jail again, and the comparison


@section
class Config:
    """Options of the verifier of programs."""

    reward: Literal["share", "all_or_nothing"] = "share"
    """Share of the tests passed, or 1 for all of them and 0 otherwise."""
    total_s: Annotated[float, Field(gt=0)] = 5.0
    """Time for all tests of a program together; beyond it the reward is 0."""
    memory_mib: Annotated[int, Field(ge=128)] = 1024
    """Address space of a program."""
    unnamed_calls: Literal["refuse", "skip"] = "refuse"
    """Tests that call a function which nothing in the data names: refuse the prompt, or judge by
    its other tests."""
    packages: tuple[str, ...] = ()
    """What programs may import besides the standard library, such as sortedcontainers or numpy."""
    truncated: base.Truncated = "wrong"
    """A response cut off before EOS: 0 without a look, or judge it by what it says."""


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """How a test went: a kind of verdict, and one line for a person."""

    kind: VerdictKind
    detail: str = ""


PASSED = TestOutcome("accepted")


class CodeVerifier:
    """Runs programs against `reference["tests"]`. See `oapl.interfaces.Verifier`.

    `reward_server.programs.problem` says in which forms the tests may be.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sandbox: Sandbox | None = None

    def start(self, level: str) -> None:
        """Start the sandbox, of the level that this machine was measured to hold."""
        bounds = Bounds(
            memory_bytes=self._config.memory_mib * MIB, cpu_s=int(self._config.total_s) + 2
        )
        self._sandbox = Sandbox(LAYERS_OF_LEVEL[level], bounds, self._config.packages)
        self._sandbox.start()

    def close(self) -> None:
        """End the sandbox."""
        if self._sandbox is not None:
            self._sandbox.close()

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Run the response's program.

        Raises:
            InputError: The prompt has no tests that can be run.
        """
        try:
            task = _tests_of(self._config, prompt)
        except ValueError as error:
            raise InputError(
                f"prompt {prompt.id} cannot be judged by the code verifier: {error}"
            ) from error
        cut = base.cut_off(rollout, self._config.truncated, 0.0)
        if cut:
            return cut
        is_open = prompt.text.rstrip().endswith("<think>")
        text = base.after_thinking(rollout.text, is_open=is_open)
        source = extract.program(text or "")
        if source is None:
            return Verdict(kind="malformed", reward=0.0, detail="no block of Python")
        deadline = time.monotonic() + self._config.total_s
        if task.script:
            return self._tested(task, source, deadline)
        return self._run_all(task, source, deadline)

    def _run_all(self, task: ProgramTests, source: str, deadline: float) -> Verdict:
        """Every test in a process of its own."""
        num_passed, first = 0, None
        tests = [*task.stdin_tests, *task.call_tests]
        for number, test in enumerate(tests, start=1):
            outcome = self._again(self._one, task, source, test, deadline)
            if outcome.kind in ("timeout", "compile_error"):
                detail = outcome.detail or f"test {number} of {len(tests)}"
                return Verdict(kind=outcome.kind, reward=0.0, detail=detail)
            if outcome.kind == "accepted":
                num_passed += 1
            elif first is None:
                first = TestOutcome(outcome.kind, f"test {number}: {outcome.detail}")
        return self._verdict(num_passed, len(tests), first)

    def _tested(self, task: ProgramTests, source: str, deadline: float) -> Verdict:
        """Tests that are Python."""
        ending, served = self._again(self._harness, task, source, deadline)
        if ending.is_late or served.is_late:
            return Verdict(kind="timeout", reward=0.0, detail=f"{self._config.total_s:g} s")
        told = served.report.get("end")
        if told == "compile_error":
            return Verdict(kind="compile_error", reward=0.0, detail=_said(served))
        passed, total = ending.report.get("passed"), ending.report.get("total")
        if not isinstance(passed, int) or not isinstance(total, int) or total < 1:
            said = _said(ending) or "its tests assert nothing"
            raise InputError(f"the tests of a prompt cannot be run: {said}")
        if passed == total:
            return self._verdict(passed, total, None)
        broken = _broken(served) if told or served.status > 0 or served.status == -_SIGSYS else None
        failure = str(ending.report.get("failure", ""))
        is_answer = failure.startswith("AssertionError")
        kind: VerdictKind = "wrong_answer" if is_answer else "runtime_error"
        return self._verdict(passed, total, broken or TestOutcome(kind, failure))

    def _verdict(self, num_passed: int, num_tests: int, first: TestOutcome | None) -> Verdict:
        share = num_passed / num_tests
        is_whole = num_passed == num_tests
        reward = share if self._config.reward == "share" else float(is_whole)
        detail = f"passed {num_passed} of {num_tests}"
        detail += f"; {first.detail}" if first is not None else ""
        kind = first.kind if first is not None else "accepted"
        return Verdict(kind=kind, reward=reward, detail=detail, parts={"tests_passed": share})

    def _one(self, task: ProgramTests, source: str, test: Any, deadline: float) -> TestOutcome:
        assert self._sandbox is not None
        if isinstance(test, CallTest):
            args = [values.encode(item) for item in test.args]
            ending = self._sandbox.function(source, "", task.entry, args, deadline=deadline)
            return _returned(ending, test, task.tolerance) or _broken(ending)
        most = max(LEAST_OUTPUT, 2 * len(test.expected) + LEAST_OUTPUT // 16)
        ending = self._sandbox.script(
            source, test.stdin.encode(errors="replace"), deadline=deadline, max_output=most
        )
        if ending.is_late or ending.is_flooding or ending.status:
            return _broken(ending)
        got = ending.output.decode(errors="replace")
        is_same = compare.same_output(
            got, test.expected, task.tolerance, ignores_case=task.ignores_case
        )
        return PASSED if is_same else _wrong(got, test.expected)

    def _harness(self, task: ProgramTests, source: str, deadline: float) -> tuple[Ending, Ending]:
        assert self._sandbox is not None
        return self._sandbox.harness(
            source,
            task.prelude,
            task.script,
            task.entry,
            tolerance=task.tolerance,
            deadline=deadline,
        )

    def _again(self, act: Any, *args: Any) -> Any:
        """Once more where the sandbox died: whose fault it was shows only then."""
        if self._sandbox is None:
            self.start(measure.strongest().level)
        try:
            return act(*args)
        except SandboxError:
            return act(*args)


_SIGSYS = int(signal.SIGSYS)
_DENIED: Mapping[str, VerdictKind] = {"denied": "sandbox_violation", "memory": "resource_limit"}


def _returned(ending: Ending, test: CallTest, tolerance: float) -> TestOutcome | None:
    """The comparison of a call's value; None where it gave none."""
    if ending.is_late or ending.is_flooding or "value" not in ending.report:
        return None
    try:
        got = values.as_json(values.decode(ending.report["value"]))
    except ValueError as error:
        return TestOutcome("wrong_answer", str(error))
    readings = [values.as_json(expected) for expected in (test.expected, *test.or_else)]
    is_same = compare.any_value(got, readings, tolerance)
    return PASSED if is_same else _wrong(repr(got), repr(test.expected))


def _broken(ending: Ending) -> TestOutcome:
    """Why a program that did not end well did not."""
    if ending.is_late:
        return TestOutcome("timeout")
    if ending.is_flooding:
        return TestOutcome("resource_limit", "wrote without end")
    if ending.status == -_SIGSYS:
        return TestOutcome("sandbox_violation", "a forbidden system call")
    if ending.status in (-signal.SIGXCPU, -signal.SIGKILL):
        return TestOutcome("resource_limit", f"killed by signal {-ending.status}")
    said = ending.report.get("end")
    if said == "compile_error":
        return TestOutcome("compile_error", _said(ending))
    if ending.status < 0:
        return TestOutcome("runtime_error", f"ended by signal {-ending.status}")
    kind = _DENIED.get(str(said), "runtime_error")
    return TestOutcome(kind, _said(ending) or f"exit code {ending.status}, no result")


def _wrong(got: str, expected: str) -> TestOutcome:
    return TestOutcome("wrong_answer", f"{got[:80]!r} is not {expected[:80]!r}")


def _said(ending: Ending) -> str:
    return str(ending.report.get("error", ""))[:300]


def build(config: Config) -> CodeVerifier:
    """See `VerifierFile`."""
    return CodeVerifier(config)


def check(config: Config) -> None:
    """Refuse a package that is not here.

    Raises:
        InputError: It is not installed.
    """
    for name in config.packages:
        if not locate(name):
            raise InputError(
                f"reward.options.code.packages: there is no {name!r} here; install it where the "
                "reward server runs, or leave it out"
            )


def limits(config: Config) -> base.Limits:
    """See `Traits`."""
    return base.Limits(is_jailed=False, deadline_s=config.total_s + SLACK_S)


def _tests_of(config: Config, prompt: Prompt) -> ProgramTests:
    """As of `problem.read`, with the same errors."""
    return problem.read(
        prompt.reference,
        prompt.question or prompt.text,
        skips_unnamed=config.unnamed_calls == "skip",
    )


DECLARES = base.Traits(
    runs_programs=True,
    limits=limits,
    check=check,
    check_prompt=_tests_of,
    start=CodeVerifier.start,
)
