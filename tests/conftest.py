"""The environment of every test, set before torch is imported anywhere."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.support.clock import LeapingLoop

os.environ.update(
    TORCHDYNAMO_DISABLE="1",  # vLLM's token-rank kernel would be compiled for 20 s
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_LOGGING_LEVEL="ERROR",
    VLLM_NO_USAGE_STATS="1",
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    DS_ACCELERATOR="cpu",  # else its import warns that there is no GPU
)

LONG = (
    *("test_learning.py", "test_program.py", "test_program_spread.py", "test_engines.py"),
    *("test_generate.py", "test_twins.py"),
    *("test_overlap.py", "test_objectives_live.py", "test_jobs.py", "test_worker_ray.py"),
    *("test_learner.py", "test_critic.py", "test_sizing.py"),
    *("test_judge.py", "test_weights_ray.py", "test_pool.py", "test_sandbox_programs.py"),
    *("test_replay_model.py", "test_weights_collective.py", "test_conformance.py"),
    "test_score.py",
)
"""Files of many seconds, the longest first."""


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """The `ray` module, connected to a cluster on the loopback interface that tests share."""
    from deploy.processes.ray_cluster import start_local_ray

    ray = start_local_ray(num_cpus=4)
    yield ray
    ray.shutdown()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first: workers that share the tests then end at about the same time."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests marked `leaping` sleep on a clock of their own."""
    if item.get_closest_marker("leaping"):
        return {"leaping": LeapingLoop}
    return {"real": asyncio.new_event_loop}
