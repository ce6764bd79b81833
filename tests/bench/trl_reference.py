"""TRL's GRPO on the bench's model and prompts; run by `trl_step` with TRL on the path.

    python -m tests.bench.trl_reference SETTINGS
    python -m tests.bench.trl_reference SETTINGS ROLLOUTS

Without ROLLOUTS it prints seconds of a step, mean length and mean reward as JSON. With it, it is a
side of `tests.bench.sides`: its first step generates, writes what was generated into ROLLOUTS and
trains on it; each later one waits for its turn and trains on the very same.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path


def reward(completions, answer, **kwargs):
    return [
        float(f"\\boxed{{{gold}}}" in text) for text, gold in zip(completions, answer, strict=True)
    ]


def main(path: str) -> None:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, args, state, control, **kwargs):
            self.times.append(time.monotonic())

    settings, clock = json.loads(Path(path).read_text()), Clock()
    trainer = build(settings, clock, logging_steps=1)
    trainer.train()
    logs = [line for line in trainer.state.log_history if "reward" in line][settings["warm_up"] :]
    times = clock.times[settings["warm_up"] - 1 :]
    print(
        json.dumps(
            {
                "step": (times[-1] - times[0]) / (len(times) - 1),
                "length": statistics.mean(line["completions/mean_length"] for line in logs),
                "reward": statistics.mean(line["reward"] for line in logs),
            }
        )
    )


def turns(path: str, rollouts: str) -> None:
    """Generate once, then a training step per line of input."""
    from transformers import TrainerCallback

    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: float) -> None:
        print(json.dumps(values), file=output, flush=True)

    class Turns(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step and not sys.stdin.readline():
                answer()
                os._exit(0)  # TRL has no way to end between two steps
            self.started = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            # The first one generated: it is the answer that all is ready.
            answer(step=time.perf_counter() - self.started)

    trainer = build(json.loads(Path(path).read_text()), Turns(), logging_steps=10**6)
    generate, kept = trainer._generate_and_score_completions, {}

    def once(inputs):
        if not kept:
            kept.update(generate(inputs))
            write(kept, Path(rollouts))
        return dict(kept)

    trainer._generate_and_score_completions = once
    trainer.train()


def write(batch, path: Path) -> None:
    """`[prompt ids, response ids, advantage]` of each rollout, groups in a row."""
    rows = [
        [ids[mask.bool()].tolist(), answer[kept.bool()].tolist(), float(advantage)]
        for ids, mask, answer, kept, advantage in zip(
            batch["prompt_ids"],
            batch["prompt_mask"],
            batch["completion_ids"],
            batch["completion_mask"],
            batch["advantages"],
            strict=True,
        )
    ]
    path.write_text(json.dumps(rows))


def build(settings, callback, logging_steps: int):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    rows = [json.loads(line) for line in Path(settings["prompts"]).read_text().splitlines()]
    config = GRPOConfig(
        output_dir=settings["folder"],
        per_device_train_batch_size=settings["batch_size"],
        num_generations=settings["group_size"],
        max_completion_length=settings["max_tokens"],
        max_steps=settings["steps"],
        learning_rate=settings["lr"],
        loss_type="grpo",
        temperature=1.0,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        logging_steps=logging_steps,
        save_strategy="no",
        disable_tqdm=True,
    )
    return GRPOTrainer(
        model=settings["model"],
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list(
            [{"prompt": row["prompt"] + "\n", "answer": row["answer"]} for row in rows]
        ),
        callbacks=[callback],
    )


if __name__ == "__main__":
    if sys.argv[2:]:
        turns(*sys.argv[1:])
    else:
        main(*sys.argv[1:])
