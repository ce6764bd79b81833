"""Where the learner's ranks meet."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psutil
import pytest

from learner import zero_engine
from oapl.config import RunConfig
from oapl.errors import OaplError
from tests.support.clusters import free_ports


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


def test_rank_0_listens_at_its_address_alone():
    (port,) = free_ports(1)
    place = ("127.0.0.1", port, timedelta(seconds=60))
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(zero_engine._store, 0, 2, *place)
        joined = zero_engine._store(1, 2, *place)
        served = serving.result(60)
        found = {
            connection.laddr.ip
            for connection in psutil.Process().net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        }
        served.set("key", "value")
        assert joined.get("key") == b"value"
    assert found == {"127.0.0.1"}
