"""TRL's GRPO on the bench's model and prompts; run by `trl_step` with TRL on the path.

    python -m tests.bench.trl_reference MODEL PROMPTS STEPS TOKENS FOLDER

Prints the seconds of each step after the first as JSON.
"""

from __future__ import annotations

import json
import sys
import time


def reward(completions, answer, **kwargs):
    return [float(gold in str(text)) for text, gold in zip(completions, answer, strict=True)]


def main(model: str, prompts: str, steps: str, tokens: str, folder: str) -> None:
    from datasets import load_dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, args, state, control, **kwargs):
            self.times.append(time.monotonic())

    clock = Clock()
    config = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=64,
        num_generations=8,
        max_completion_length=int(tokens),
        max_steps=int(steps),
        learning_rate=1e-6,
        temperature=1.0,
        beta=0.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=load_dataset("json", data_files=prompts, split="train"),
        callbacks=[clock],
    )
    trainer.train()
    print(json.dumps([b - a for a, b in zip(clock.times, clock.times[1:], strict=False)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
