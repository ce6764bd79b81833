"""What benches share that set a command, which answers a file of prompts, beside `LLM.generate`.

Ours is the command's own work: queue, engine, log-probs, rewards, what it stores. Plain is
`vllm.LLM.generate` on the same prompts, with log-probs and the same engine settings, and nothing
else. Both are processes of their own, each engine on one thread, in turn; the fastest turn of each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import pipeline, side, table
from tests.bench.sides import Side, alternate

ROUNDS = 2
"""Turns that count: a turn is minutes with a large model."""
BAR = 0.95

Settings = dict[str, Any]
Configure = Callable[[Settings, str], Any]
"""The run of a turn, by its name."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A command beside `LLM.generate`.

    Attributes:
        module: That runs a side, for `python -m`.
        what: The figure, in words.
        configure: Makes the run of a turn.
        seconds_a_token: Of one turn of the command.
    """

    module: str
    what: str
    configure: Configure
    seconds_a_token: Callable[[Any], float]

    def measure(
        self,
        folder: Path,
        model: Path,
        name: str,
        num_prompts: int,
        max_tokens: int,
        *,
        warms_up: bool = True,
    ) -> list[table.Row]:
        """Let both sides take turns on the same prompts.

        Args:
            folder: For all that is written.
            model, name: The model's folder, and what it is called.
            num_prompts, max_tokens: How many are asked, and the longest answer.
            warms_up: As of `alternate`.
        """
        settings = {
            "folder": str(folder),
            "model": str(model),
            "prompts": str(pipeline.make_prompts(folder / "prompts.jsonl", num_prompts)),
            "max_tokens": max_tokens,
        }
        sides = {kind: self._side({**settings, "kind": kind}) for kind in ("ours", "plain")}
        found = alternate(sides, ROUNDS, warms_up=warms_up)
        ours, plain = (1 / found[kind]["seconds_a_token"] for kind in ("ours", "plain"))
        return [
            table.Row(
                what=self.what,
                model=name,
                ours=ours,
                theirs=plain,
                unit="tokens/s",
                ratio=ours / plain,
                bar=BAR,
            )
        ]

    def main(self, measure: Callable[[Path, str], list[table.Row]]) -> None:
        """The bench as a program, or one of its sides."""
        if sys.argv[1:2] != ["--side"]:
            table.main(measure)
            return
        given = json.loads(sys.argv[2])
        begin = self._ours if given["kind"] == "ours" else self._plain
        side.serve(lambda: begin(given))

    def _side(self, settings: Settings) -> Side:
        return Side(["-m", self.module, "--side", json.dumps(settings)])

    def _ours(self, settings: Settings) -> side.Step:
        """Each turn is the command's work in a run folder of its own."""
        from deploy.processes.ray_cluster import start_local_ray

        start_local_ray(num_cpus=2)
        turns = iter(range(1000))

        def step() -> dict[str, float]:
            config = self.configure(settings, f"ours-{next(turns)}")
            return {"seconds_a_token": self.seconds_a_token(config)}

        return step

    def _plain(self, settings: Settings) -> side.Step:
        """Each turn is a call of `LLM.generate`."""
        prompts = Path(settings["prompts"])
        engine = pipeline.PlainEngine(self.configure(settings, "plain"), prompts)

        def step() -> dict[str, float]:
            tokens, seconds = engine.generate()
            return {"seconds_a_token": seconds / tokens}

        return step


def configure(settings: Settings, name: str, **sections: Any) -> Any:
    """A run that answers the bench's prompts.

    Args:
        settings: Of a side.
        name: The run's.
        sections: Settings that are the command's own.
    """
    return pipeline.configure(
        Path(settings["folder"]),
        name,
        Path(settings["model"]),
        Path(settings["prompts"]),
        settings["max_tokens"],
        tracking={"console": "off", "wandb": "off"},
        **sections,
    )
