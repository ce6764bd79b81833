"""Stored answers as a log of inspect-ai, which its viewer and its data frames read.

One log per set, samples as epochs, the reward as the only score; greedy answers make a log of their
own, since they are of another way to draw. Written as plain JSON: the package is not needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.run.evaluation_report import StoredSet
from oapl import groups_file
from oapl.evaluation import Problem, Protocol, extract_answer, mean_and_error
from oapl.evaluation.problem import Sample
from oapl.groups_file import shards
from oapl.records import Prompt, Sampling
from oapl.whole_files import written_aside

FORMAT = 2
"""Of inspect-ai's logs."""
SCORE = "reward"
STOPS = {"stop": "stop", "length": "max_tokens", "abort": "unknown"}

Table = dict[str, Any]


def write(sets: Sequence[StoredSet], out: Path) -> list[Path]:
    """Write a log for each set, and one for its greedy answers beside samples.

    Args:
        sets: Of an evaluation.
        out: Folder of the logs, made where it is not there.

    Returns:
        The files.
    """
    written = []
    for one in sets:
        for name, samples, sampling in _parts(one):
            path = out / f"{name}.json"
            with written_aside(path) as part:
                part.write_text(json.dumps(_log(one, name, samples, sampling), indent=1))
            written.append(path)
    return written


Answered = Sequence[tuple[Prompt, Sequence[Sample]]]


def _parts(one: StoredSet) -> Iterator[tuple[str, Answered, Sampling]]:
    protocol = one.made.protocol
    problems = [Problem.of(answers, protocol) for answers in one.answers]
    drawn = protocol.sampling if protocol.num_samples else protocol.sampling.greedy()
    yield one.made.name, [(p.prompt, p.responses) for p in problems], drawn
    greedy = [(p.prompt, (p.greedy,)) for p in problems if p.greedy is not None]
    if protocol.num_samples and greedy:
        yield f"{one.made.name}-greedy", greedy, protocol.sampling.greedy()


def _log(one: StoredSet, name: str, answered: Answered, sampling: Sampling) -> Table:
    model = f"oapl/{groups_file.header(one.folder).model}"
    made = datetime.fromtimestamp(shards(one.folder)[0].stat().st_mtime, UTC)
    told = made.isoformat(timespec="seconds")
    samples = [
        _sample(prompt, sample, epoch, model)
        for prompt, samples in answered
        for epoch, sample in enumerate(samples, 1)
    ]
    return {
        "version": FORMAT,
        "status": "success",
        "eval": _spec(one.made.protocol, name, answered, sampling, model, told),
        "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}]},
        "results": _results(answered, len(samples)),
        "stats": {"started_at": told, "completed_at": told, "model_usage": {}},
        "samples": samples,
    }


def _spec(
    protocol: Protocol, name: str, answered: Answered, sampling: Sampling, model: str, told: str
) -> Table:
    ids = [prompt.id for prompt, _ in answered]
    drawn = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    digest = hashlib.blake2b(f"{model}\n{name}\n{told}".encode(), digest_size=11).hexdigest()
    return {
        "eval_id": digest,
        "run_id": digest,
        "created": told,
        "task": name,
        "task_id": digest,
        "task_version": 0,
        "dataset": {"name": name, "samples": len(ids), "sample_ids": ids, "shuffled": False},
        "model": model,
        "model_generate_config": drawn | ({"top_k": sampling.top_k} if sampling.top_k else {}),
        "model_args": {},
        "config": {"epochs": max((len(samples) for _, samples in answered), default=1)},
        "packages": {},
        "metadata": {"protocol": protocol.to_json()},
    }


def _results(answered: Answered, total: int) -> Table:
    """The mean over problems, and its error."""
    means = [sum(j.reward for _, j in samples) / len(samples) for _, samples in answered if samples]
    metrics = dict(zip(("mean", "stderr"), mean_and_error(means), strict=True)) if means else {}
    told = {
        name: {"name": name, "value": value, "params": {}}
        for name, value in metrics.items()
        if value == value  # of one problem there is no error
    }
    score = {"name": SCORE, "scorer": SCORE, "params": {}, "metrics": told}
    return {"total_samples": total, "completed_samples": total, "scores": [score]}


def _sample(prompt: Prompt, sample: Sample, epoch: int, model: str) -> Table:
    rollout, judgement = sample
    asked = {"role": "user", "content": prompt.question or prompt.text}
    said = {"role": "assistant", "content": rollout.text, "source": "generate", "model": model}
    counts = {"input_tokens": len(prompt.token_ids), "output_tokens": len(rollout.token_ids)}
    usage = {**counts, "total_tokens": sum(counts.values())}
    choice = {"message": said, "stop_reason": STOPS[rollout.finish_reason]}
    return {
        "id": prompt.id,
        "epoch": epoch,
        "input": asked["content"],
        "target": _target(prompt.reference.get("answer")),
        "messages": [asked, said],
        "output": {"model": model, "choices": [choice], "usage": usage},
        "scores": {
            SCORE: {
                "value": judgement.reward,
                "answer": extract_answer(rollout.text),
                "metadata": _verdicts(judgement.verdicts),
            }
        },
        "metadata": {"prompt": prompt.text},
        "model_usage": {model: usage},
    }


def _target(answer: Any) -> str | list[str]:
    if isinstance(answer, list | tuple):
        return [str(one) for one in answer]
    return "" if answer is None else str(answer)


def _verdicts(verdicts: Mapping[str, Any]) -> Table:
    return {
        name: {
            "kind": verdict.kind,
            "reward": verdict.reward,
            "detail": verdict.detail,
            "parts": dict(verdict.parts),
        }
        for name, verdict in verdicts.items()
    }
