"""Where the learner's ranks meet."""

import socket
import time

import pytest

from learner import zero_engine
from oapl.config import RunConfig
from oapl.errors import OaplError


def test_a_port_that_was_taken_meanwhile_is_named_with_the_remedy(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # `join` sets them for the whole process
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(OaplError, match=f"rank 0 cannot meet.*127.0.0.1:{port}.*start again"):
            zero_engine.join(
                RunConfig(),
                rank=0,
                world_size=2,
                master_address="127.0.0.1",
                master_port=port,
            )
        assert time.monotonic() - started < 120
