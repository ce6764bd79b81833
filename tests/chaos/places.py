"""Where in the product a fault can strike by itself: a place is one function, struck as it begins.

`tests/chaos/site/sitecustomize.py` does it, in whatever process of a run comes there first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

SITE = Path(__file__).parent / "site"
PLACES = {
    "forward": "learner.zero_engine:ZeroEngine.forward",
    "backward": "learner.zero_engine:ZeroEngine.backward",
    "step": "learner.zero_engine:ZeroEngine.step",
    "save": "learner.checkpoints.shards:save",
    "load_checkpoint": "learner.checkpoints.shards:load",
    "export": "learner.publisher:Publisher.announce",
    "chunk": "learner.publisher:Publisher.send_chunk",
    "commit": "learner.checkpoints.snapshots:commit",
    "reset": "learner.trainer:Trainer.reset_reference",
    "take": "oapl.replay.buffer:ReplayBuffer.take",
    "put": "oapl.replay.buffer:ReplayBuffer.put",
    "snapshot": "oapl.replay.buffer:ReplayBuffer.snapshot",
    "generate": "actors.engines.vllm_inprocess:VllmInprocess.generate",
    "load": "actors.engines.vllm_inprocess:VllmInprocess.load",
    "probe": "actors.engines.vllm_inprocess:VllmInprocess._score",
    "evaluate": "actors.worker:RolloutWorker.evaluate",
    "drain": "actors.engines.base:drain",
    "judge": "reward_server.server:RewardServer.score",
    "log": "oapl.tracking.jsonl:JsonlSink.log",
    "store_groups": "oapl.tracking.rollouts:RolloutStore.flush",
    "put_weights": "oapl.weights.object_store:Sender.put",
}
FAULTS = {
    "kill": "kill -9",
    "stop": "SIGSTOP for ever",
    "exit": "exit",
    "gil": "a thread holds the GIL in C",
    "raise": "an exception",
    "fill_disk": "the disk is full",
    "fill_store": "Ray's object store is full",
    "refuse": "Ray's object store takes nothing, nor does its disk",
}
"""What is done there, in words."""
STAYING = ("fill_disk", "fill_store")
"""Deeds after which the process goes on with what it was called for."""
NUMBERS = {"oapl.weights.base:SMALLEST_CHUNK": 2**18}
"""What is another number in the runs that are struck: a tiny model has one chunk else, so that
nothing could strike between two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """A strike that was made.

    Attributes:
        pid: Of the process that made it.
        at: When, by the wall clock.
    """

    pid: int
    at: float


class Armoury:
    """A folder that the processes of a run look into.

    Args:
        folder: Made here.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("armed", "fired"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        lines = [f"{place} {target}\n" for place, target in PLACES.items()]
        (folder / "places").write_text("".join(lines))
        numbers = [f"{target} {number}\n" for target, number in NUMBERS.items()]
        (folder / "numbers").write_text("".join(numbers))

    @property
    def variables(self) -> dict[str, str]:
        """What a run's environment needs."""
        return {"OAPL_CHAOS": str(self._folder)}

    def arm(self, place: str, act: str, call: int = 1, prompt: str = "") -> None:
        """Have the next call there strike.

        Args:
            place: One of `PLACES`.
            act: One of `FAULTS`.
            call: Which of the calls from now on.
            prompt: A word, without blanks, of the prompt for which each call strikes; empty: one
                call does, for any.
        """
        assert place in PLACES, place
        for note in (place, f"{place}.done"):
            (self._folder / "fired" / note).unlink(missing_ok=True)
        part = self._folder / f"{place}.part"
        part.write_text(f"{act} {call} {prompt}")
        part.rename(self._folder / "armed" / place)

    def fired(self, place: str, seconds: float) -> Fired:
        """Wait for the strike.

        Raises:
            AssertionError: None was made in time.
        """
        _, pid, at = self._read(place, f"nothing came to {place}", seconds).split()
        return Fired(pid=int(pid), at=float(at))

    def done(self, place: str, seconds: float) -> str:
        """Wait until a deed after which the process goes on is done; what it tells.

        Raises:
            AssertionError: It was not in time.
        """
        return self._read(f"{place}.done", f"what was begun at {place} is not done", seconds)

    def _read(self, name: str, late: str, seconds: float) -> str:
        note, deadline = self._folder / "fired" / name, time.monotonic() + seconds
        while not note.exists():
            assert time.monotonic() < deadline, f"{late} within {seconds:g} s"
            time.sleep(0.05)
        return note.read_text()

    def disarm(self) -> None:
        """Take away what has not struck."""
        for armed in (self._folder / "armed").iterdir():
            armed.unlink()
