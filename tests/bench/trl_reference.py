"""TRL's GRPO on the bench's model and prompts; run by `trl_step` with TRL on the path.

    python -m tests.bench.trl_reference SETTINGS

Prints seconds of a step, mean length and mean reward as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path


def reward(completions, answer, **kwargs):
    return [
        float(f"\\boxed{{{gold}}}" in text) for text, gold in zip(completions, answer, strict=True)
    ]


def main(path: str) -> None:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    settings = json.loads(Path(path).read_text())
    rows = [json.loads(line) for line in Path(settings["prompts"]).read_text().splitlines()]

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, args, state, control, **kwargs):
            self.times.append(time.monotonic())

    clock = Clock()
    config = GRPOConfig(
        output_dir=settings["folder"],
        per_device_train_batch_size=settings["batch_size"],
        num_generations=settings["group_size"],
        max_completion_length=settings["max_tokens"],
        max_steps=settings["steps"],
        learning_rate=settings["lr"],
        temperature=1.0,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=settings["model"],
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list(
            [{"prompt": row["prompt"] + "\n", "answer": row["answer"]} for row in rows]
        ),
        callbacks=[clock],
    )
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


if __name__ == "__main__":
    main(*sys.argv[1:])
