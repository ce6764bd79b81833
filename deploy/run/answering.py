"""An evaluation on rollout workers that may die meanwhile: what they were answering is asked again.

Invariant: a problem is answered once, whoever died; a worker that turned out to be dead is asked no
more, also where nobody else has noticed that yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from deploy.run.members import Member, one_line
from oapl.errors import DiedError, OaplError
from oapl.evaluation import Protocol
from oapl.loops import evaluate
from oapl.records import EvalAnswers, Prompt, Terms
from oapl.remote.open_waits import OPEN
from oapl.remote.waiting import within

ATTEMPTS = 3
"""A worker that dies takes its answers with it; one that this meets thrice is no accident."""


@dataclass(slots=True)
class _Asked:
    """A worker as an evaluation sees it."""

    member: Member
    dead: list[Member]

    async def evaluate(self, prompts: Sequence[Prompt], terms: Terms) -> Sequence[EvalAnswers]:
        handle = self.member.process.handle
        try:
            return await handle.evaluate(prompts, terms)
        except DiedError:
            self.dead.append(self.member)
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """How an evaluation goes.

    Attributes:
        protocol: By which each problem is answered.
        members: Gives workers to ask, but for those that have died.
        timeout_s: Longest, from one death to the next.
        note: Is given lines for the person who watches.
        answered: Is given the answers of each problem as they come.
        slots: As of `oapl.loops.evaluate`.
    """

    protocol: Protocol
    members: Callable[[Sequence[Member]], Awaitable[Sequence[Member]]]
    timeout_s: float
    note: Callable[[str], None]
    answered: Callable[[EvalAnswers], None] | None = None
    slots: int = 0

    async def answers_to(self, prompts: Sequence[Prompt]) -> list[EvalAnswers]:
        """Have every problem answered and judged.

        Args:
            prompts: The problems.

        Returns:
            One record per prompt, in their order.

        Raises:
            DeadlineError: They did not end in time.
            DiedError: Workers died `ATTEMPTS` times, and no problem was answered between two
                deaths.
            StaleError: With `slots`: a load has cut it off.
        """
        found: dict[str, EvalAnswers] = {}
        attempts, dead = 0, list[Member]()
        while rest := [prompt for prompt in prompts if prompt.id not in found]:
            members, before = await self.members(dead), len(found)
            try:
                await self._ask([_Asked(member, dead) for member in members], rest, found)
            except Exception as error:
                attempts = attempts + 1 if len(found) == before else 1
                ours = isinstance(error, OaplError) and not isinstance(error, DiedError)
                if attempts == ATTEMPTS or ours:
                    raise
                self.note(f"evaluation interrupted ({one_line(error)}); once more")
        return [found[prompt.id] for prompt in prompts]

    async def _ask(
        self, asked: Sequence[_Asked], rest: Sequence[Prompt], found: dict[str, EvalAnswers]
    ) -> None:
        who = "a worker" if len(asked) == 1 else f"{len(asked)} workers"
        what = f"{who} to answer {len(rest):,} evaluation prompts"
        with OPEN.awaiting(what, self.timeout_s) as wait:

            def keep(answers: EvalAnswers) -> None:
                found[answers.prompt.id] = answers
                wait.heard()
                if self.answered is not None:
                    self.answered(answers)

            asking = evaluate(
                asked,
                rest,
                protocol=self.protocol,
                answered=keep,
                timeout_s=self.timeout_s,
                slots=self.slots,
            )
            await within(self.timeout_s, asking, what)
