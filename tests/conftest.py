"""The environment of every test, set before torch is imported anywhere."""

import asyncio
import os
from collections.abc import Callable, Mapping

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


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests marked `leaping` sleep on a clock of their own."""
    if item.get_closest_marker("leaping"):
        return {"leaping": LeapingLoop}
    return {"real": asyncio.new_event_loop}
