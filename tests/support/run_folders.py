"""Run folders as a run leaves them, made in a moment: for what reads them.

Names of metrics are the real ones; what a run would measure is drawn from curves that look like it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oapl.config import RunConfig
from oapl.config.toml import to_toml
from oapl.groups_file import Header, StoredGroup, Writer
from oapl.records import (
    Credit,
    CreditedGroup,
    Group,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    Verdict,
)

BEGAN = 1_700_000_000.0
G, GROUPS_PER_STEP, MEAN_LENGTH = 8, 8, 30
SETS = ("sums", "products")
NUM_PROBLEMS, NUM_SAMPLES = 12, 8
HEADER = Header(model="m", tokenizer="t", template="p", made_by="train", logprobs="sampled")
STEP_S = 2.0


def config_of(
    folder: Path, seed: int = 0, objective: str = "oapl", interval: int = 10
) -> RunConfig:
    """The recipe of such a run."""
    return RunConfig(
        run={"name": folder.name, "dir": str(folder.parent), "seed": seed, "max_steps": 60},
        model={"path": "m"},
        objective={"name": objective},
        rollout={"group_size": G},
        learner={"batch_size": G * GROUPS_PER_STEP},
        sync={"interval": interval},
        data={"sources": [{"name": "sums", "path": "sums.jsonl"}]},
        eval={"sources": [{"name": name, "path": f"{name}.jsonl"} for name in SETS]},
    )


def make(
    folder: Path,
    *,
    seed: int = 0,
    steps: int = 60,
    objective: str = "oapl",
    interval: int = 10,
    level: float = 0.9,
    text: str = "3+4=7; \\boxed{7}",
    extra: Mapping[str, float] | None = None,
    has_rollouts: bool = True,
) -> Path:
    """Make a run of two evaluation sets that learns.

    Args:
        folder: Of the run.
        seed: Of all that is drawn, and the run's.
        steps: Learner steps; it is evaluated at every third part of them.
        objective: Its name, under which its metrics are.
        interval: L.
        level: Score at which it ends.
        text: Of every answer.
        extra: More metrics of every line.
        has_rollouts: Whether it has stored some.
    """
    chance = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(to_toml(config_of(folder, seed, objective, interval)))
    places = sorted({0, steps // 3, 2 * steps // 3, steps})
    rows: list[dict[str, Any]] = []
    at = BEGAN
    for step in range(steps + 1):
        if step:
            at += STEP_S
            rows.append(line(step, steps, level, chance, objective) | dict(extra or {}) | _at(at))
        if step in places:
            at += 3.0
            score = _score(step, steps, level)
            rows.append({"step": step, **evaluation(score, chance)} | _at(at))
            write_answers(folder, step, score, chance, text)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if has_rollouts:
        store(folder, steps, text)
    return folder


def line(
    step: int, steps: int, level: float, chance: np.random.Generator, objective: str = "oapl"
) -> dict[str, Any]:
    """The line of a learner step."""
    noise = chance.normal(0, 0.02)
    score, part = _score(step, steps, level), step / steps
    is_published = step % 10 == 1
    values = {
        "time/wait_for_batch_s": 0.8,
        "time/forward_backward_s": 1.0,
        "time/step_s": STEP_S,
        "time/both_working_s": 0.9,
        f"loss/{objective}": 0.5 - 0.3 * part + noise,
        "policy/entropy": 0.9 - 0.6 * part + noise / 2,
        "policy/policy_kl": 0.001 + 0.01 * part,
        "policy/prob_ratio": 1.001 + 0.01 * part + abs(noise) / 10,
        "policy/grad_norm": 1.0 + noise,
        "policy/lr": 1e-5,
        "reward/mean": score + noise,
        "reward/trained_mean": score + noise,
        "reward/uniform_groups": 0.2 + 0.5 * part,
        "reward/math/mean": score + noise,
        "reward/math/malformed_rate": 0.3 * (1 - part),
        "reward/math/timeout_rate": 0.0,
        "reward/math/latency_p95_s": 0.01 + abs(noise),
        "rollout/length_mean": MEAN_LENGTH + 10 * part + 20 * noise,
        "rollout/length_max": 64.0,
        "rollout/truncated_rate": 0.1 * (1 - part),
        "rollout/repetition_rate": 0.05,
        "rollout/rollouts": 64.0,
        "rollout/tokens": 64.0 * MEAN_LENGTH,
        "rollout/aborted_tokens": 200.0 if is_published else 0.0,
        "replay/accepted": GROUPS_PER_STEP + 1.0 * is_published,
        "replay/dropped": 0.0,
        "replay/failed": 0.0,
        "replay/cleared_groups": 1.0 * is_published,
        "replay/cleared_tokens": G * MEAN_LENGTH * 1.0 * is_published,
        "replay/refused_stale": 0.0,
        "replay/refused_tokens": 0.0,
        "replay/size": 0.0,
        "replay/in_flight": 2.0,
        "replay/queued": 0.0,
        "replay/lag_mean": float((step - 1) % 10),
        "replay/lag_max": float((step - 1) % 10),
        "idle/learner": 0.4,
        "idle/engines": 0.1 + 0.05 * chance.random(),
        "faults/skipped_steps": 0.0,
        "faults/worker_restarts": 1.0 if step == steps // 2 else 0.0,
    }
    if objective == "oapl":
        for name, width in (("v_star", 0.2), ("advantage", 0.4), ("residual", 0.4 - 0.2 * part)):
            values |= {f"oapl/{name}_mean": noise, f"oapl/{name}_std": width}
    if is_published:
        values |= {"time/publish_s": 0.3}
    return {"step": step, **values}


def evaluation(score: float, chance: np.random.Generator) -> dict[str, float]:
    """The figures of an evaluation of both sets."""
    found: dict[str, float] = {}
    for number, name in enumerate(SETS):
        own = float(np.clip(score - 0.1 * number + chance.normal(0, 0.005), 0, 1))
        found |= {
            f"eval/{name}/mean@{NUM_SAMPLES}": own,
            f"eval/{name}/mean@{NUM_SAMPLES}_se": 0.02,
            f"eval/{name}/pass@1": own,
            f"eval/{name}/pass@1_se": 0.02,
            f"eval/{name}/pass@8": min(1.0, own + 0.1),
            f"eval/{name}/pass@8_se": 0.02,
            f"eval/{name}/greedy": own,
            f"eval/{name}/length_mean": MEAN_LENGTH,
        }
    return found


def write_answers(
    folder: Path, step: int, score: float, chance: np.random.Generator, text: str
) -> None:
    """Write what an evaluation has kept."""
    (folder / "evaluations").mkdir(exist_ok=True)
    for name in SETS:
        lines = [
            {
                "id": f"{name}:{number}",
                "question": f"What is {number} + 4? {text}",
                "answer": str(number + 4),
                "samples": [_sample(score, chance, text) for _ in range(NUM_SAMPLES)],
                "greedy": _sample(score, chance, text),
            }
            for number in range(NUM_PROBLEMS)
        ]
        path = folder / "evaluations" / f"step-{step}.{name}.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))


def store(folder: Path, steps: int, text: str, num_groups: int = 24) -> None:
    """Store groups of the last steps, as a run does."""
    with Writer(folder / "rollouts", HEADER) as writer:
        for number in range(num_groups):
            writer.add(group(number, steps - num_groups + number + 1, text))


def group(number: int, step: int, text: str, rewards: Sequence[float] = (1.0, 0.0)) -> StoredGroup:
    """A stored group of a question of its own."""
    rollouts = tuple(
        Rollout(
            token_ids=np.arange(3, 13, dtype=np.int32),
            inference_logprobs=np.full(10, -0.5, np.float32),
            finish_reason="stop",
            text=f"{text} {place}",
            first_version=0,
            last_version=0,
        )
        for place in range(len(rewards))
    )
    prompt = Prompt(
        id=f"sums:{number}@0",
        text=f"<user>What is {number} + 4? {text}",
        token_ids=np.array([1, 2], np.int32),
        verifiers={"math": 1.0},
        reference={"answer": str(number + 4)},
        source="sums",
        question=f"What is {number} + 4? {text}",
    )
    scored = ScoredGroup(
        group=Group(
            prompt=prompt, rollouts=rollouts, version=0, sampling=Sampling(temperature=1.0)
        ),
        rewards=np.array(rewards, np.float32),
        verdicts=tuple({"math": _verdict(reward, text)} for reward in rewards),
    )
    credit = Credit(values=np.array(rewards, np.float32) - 0.5, metrics={})
    return StoredGroup.from_credited(CreditedGroup(scored=scored, credit=credit), step)


def _verdict(reward: float, text: str) -> Verdict:
    kind = "accepted" if reward else "wrong_answer"
    return Verdict(kind=kind, reward=reward, detail=text, seconds=0.1, parts={})


def _sample(score: float, chance: np.random.Generator, text: str) -> dict[str, Any]:
    return {
        "text": text,
        "reward": float(chance.random() < score),
        "tokens": int(chance.integers(10, 60)),
        "finish_reason": "stop",
    }


def _score(step: int, steps: int, level: float) -> float:
    return 0.3 + (level - 0.3) * (1 - float(np.exp(-4 * step / steps)))


def _at(at: float) -> dict[str, float]:
    return {"time/unix_s": round(at, 3)}
