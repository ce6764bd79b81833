"""Sampled rollouts with reward, verdict and tokens, coloured by how far the learner has drifted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from oapl.reports._drawing.texts import Answer, Question, Token, length
from oapl.reports._study.rollouts import Stored, Tokens, pieces, stored, tokens
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing, Texts

DECLARES = About(
    title="Sampled rollouts",
    section="samples",
    place=20,
    reads="Of the last part of the run: the best and the worst of different prompts, the longest "
    "and the shortest. A token is tinted where the learner, when it trained on it, thought it "
    "likelier (blue) or less likely (orange) than the engine had when it sampled it.",
    like="ReMix Appendix E; Perplexity, model collapse",
)
LATE_SHARE = 0.34
"""Of the learner steps, from whose rollouts is chosen."""
EACH_OF_ONE, EACH_OF_SEVERAL = 2, 1
"""Rollouts of a kind, of a single series and of several."""
MOST_TOKENS = 600
MOST_CHARACTERS = 4000
MOST_RUNS = 3
UNCUT = (
    "No token is tinted: the rollouts have no log-probs, or no tokenizer is at hand "
    "(RUN/model/tokenizer.json)."
)
UNTOLD = (
    "The learner's log-probs were not kept with these rollouts: a token is tinted by how "
    "unlikely it was to the engine that sampled it."
)
Rank = Callable[[Stored], tuple[float, ...]]
KINDS: dict[str, Rank] = {
    "best": lambda one: (one.told["reward"], one.told["step"]),
    "worst": lambda one: (-one.told["reward"], one.told["step"]),
    "longest": lambda one: (len(one.response), one.told["step"]),
    "shortest": lambda one: (-len(one.response), one.told["step"]),
}


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    each = EACH_OF_ONE if len(study.series) == 1 else EACH_OF_SEVERAL
    found: list[Question] = []
    for series, run in study.firsts[:MOST_RUNS]:
        head = f"{series.name}: " if len(study.series) > 1 else ""
        found += [_told(run, head + kind, one) for kind, one in chosen(stored(run.folder), each)]
    if not found:
        return Absent('these runs have stored no rollouts (tracking.store_groups = "off")')
    has_tokens = any(answer.tokens for one in found for answer in one.answers)
    note = UNCUT if not has_tokens else "" if _has_drift(study) else UNTOLD
    return Texts(questions=tuple(found), note=note)


def chosen(found: Sequence[Stored], each: int) -> Iterator[tuple[str, Stored]]:
    """Choose rollouts to be read, no two of one question and none twice.

    Args:
        found: All that a run has stored.
        each: Of a kind.

    Yields:
        What a rollout stands for, and the rollout.
    """
    if not found:
        return
    last = max(one.told["step"] for one in found)
    first = min(one.told["step"] for one in found)
    late = [one for one in found if one.told["step"] >= last - LATE_SHARE * (last - first)]
    seen: set[str] = set()
    for kind, rank in KINDS.items():
        left = each
        for one in sorted(late, key=rank, reverse=True):
            if left and one.question not in seen:
                seen.add(one.question)
                left -= 1
                yield kind, one


def _told(run: Run, kind: str, one: Stored) -> Question:
    told, read = one.told, tokens(one)
    credit = "" if told["credit"] is None else f"credit {told['credit']:+.3f}"
    facts = (
        f"step {told['step']:,}",
        f"version {told['version']:,}",
        f"reward {told['reward']:g}",
        credit,
        length(len(read.ids)),
        str(told["finish_reason"]),
    )
    verdicts = tuple(
        f"{name}: {said['kind']} {said['reward']:g} {said['detail']}".rstrip()
        for name, said in one.verdicts.items()
    )
    kinds = {said["kind"] for said in one.verdicts.values()}
    answer = Answer(
        title=kind,
        facts=tuple(filter(None, facts)),
        text=_shortened(one.response),
        tokens=_tokens(run, read),
        is_right=kinds == {"accepted"} if kinds else None,
        verdicts=verdicts,
    )
    return Question(text=_shortened(one.question), reference="", answers=(answer,))


def _has_drift(study: Study) -> bool:
    firsts = [found[0] for _, run in study.firsts[:MOST_RUNS] if (found := stored(run.folder))]
    return any(tokens(one).learner is not None for one in firsts)


def _tokens(run: Run, read: Tokens) -> tuple[Token, ...]:
    """With the learner's drift, else with the log-probs as sampled; none without a tokenizer."""
    if read.sampled is None:
        return ()
    texts = pieces(read.ids[:MOST_TOKENS], _models(run))
    if texts is None:
        return ()
    nats = read.sampled if read.learner is None else read.learner - read.sampled
    return tuple(
        Token(text=text, nats=float(value))
        for text, value in zip(texts, np.nan_to_num(nats), strict=False)
    )


def _models(run: Run) -> list[Path]:
    return [run.folder / "model", Path(str(run.setting("model.path", ""))).expanduser()]


def _shortened(text: str) -> str:
    """Head and tail of a long text: a response's end holds its answer."""
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters ...]\n{text[-half:]}"
