"""The reasoning-gym verifier on stored puzzles: gold answers in a box and in tags, and other ones.

Every puzzle with a gold answer must give it 1; the gold answer of another puzzle of the same task
shows that the scorer tells them apart at all.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import numpy as np

from oapl.records import Prompt
from reward_server.verifiers import reasoning_gym
from tests.support import real_data
from tests.support.judging import prompt, rollout

FORMS = ("<think>hm</think><answer>{}</answer>", "so \\boxed{{{}}}")


def main() -> int:
    """1 where a gold answer got less than 1."""
    try:
        rows = real_data.rows("reasoning_gym_5x")
    except real_data.Absent as error:
        print(f"reasoning_gym: not compared: {error}")
        return 0
    verifier = reasoning_gym.build(reasoning_gym.Config(allow_unsafe=True))
    by_task = defaultdict(list)
    for row in rows:
        if row["answer"] is not None:
            by_task[row["dataset"]].append(row)
    missed, gold, other = [], [], []
    for task, puzzles in by_task.items():
        for row, next_row in zip(puzzles, puzzles[1:] + puzzles[:1], strict=True):
            asked = _prompt(task, row)
            for form in FORMS:
                verdict = verifier.verify(asked, rollout(form.format(row["answer"])))
                gold.append(verdict.reward)
                if verdict.reward < 1:
                    missed.append(f"{row['id']} {form[:8]}: {verdict.kind}, {verdict.detail[:120]}")
            if next_row["answer"] != row["answer"]:
                wrong = rollout(FORMS[0].format(next_row["answer"]))
                other.append(verifier.verify(asked, wrong).reward)
    for line in missed[:20]:
        print(f"reasoning_gym: {line}")
    print(
        f"reasoning_gym: {len(by_task)} tasks, {len(gold)} gold answers: {len(missed)} below 1; "
        f"{len(other)} answers of another puzzle: mean {np.mean(other):.3f}, "
        f"{sum(reward == 1 for reward in other)} at 1"
    )
    return int(bool(missed))


def _prompt(task: str, row: dict[str, Any]) -> Prompt:
    entry = {"question": row["prompt"], "answer": row["answer"], "metadata": row["metadata"]}
    return prompt({"entry": entry, "task": task}, {"reasoning_gym": 1.0})


if __name__ == "__main__":
    sys.exit(main())
