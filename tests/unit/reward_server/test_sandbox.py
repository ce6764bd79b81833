"""One attack, one test: real payloads, evaluated in a real jailed worker."""

import os
import socket

import pytest
import pytest_asyncio

from reward_server.sandbox import bpf, landlock
from reward_server.server import RewardServer
from tests.support.judging import HOSTILE, deed, server

pytestmark = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")
OPTIONS = {HOSTILE: {"jailed": True}}
IN_JAIL = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def jail():
    async with server({HOSTILE: 1.0}, OPTIONS, workers=1) as running:
        yield running


async def attempt(running: RewardServer, payload: str):
    (answer,) = await running.score([deed("eval", payload)])
    assert (await running.stats())["reward/sandbox_level"] >= 1
    return answer.verdicts[HOSTILE]


@IN_JAIL
async def test_a_payload_writes_no_file(jail, tmp_path):
    target = tmp_path / "written"
    payload = f"open({str(target)!r}, 'w').write('x')"
    assert "PermissionError" in (await attempt(jail, payload)).detail
    assert not target.exists()
    async with server({HOSTILE: 1.0}, workers=1) as free:
        assert (await attempt(free, payload)).kind == "accepted"  # the payload is a real one
    assert target.exists()


@IN_JAIL
async def test_a_payload_reads_no_secret(jail, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("token")
    verdict = await attempt(jail, f"open({str(secret)!r}).read()")
    assert (verdict.kind, "token" in verdict.detail) == ("error", False)


async def test_a_payload_sees_no_environment_of_the_server(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "token")
    async with server({HOSTILE: 1.0}, OPTIONS, workers=1) as jail:
        seen = await attempt(jail, "__import__('os').environ.get('SOME_API_KEY')")
        assert seen.detail == "None"
        assert (await attempt(jail, "open('/proc/self/environ').read()")).kind == "error"


@IN_JAIL
async def test_a_payload_reaches_no_server(jail):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = listener.getsockname()
        verdict = await attempt(jail, f"__import__('socket').create_connection({address!r}, 2)")
        assert verdict.kind == "error"
        with pytest.raises(BlockingIOError):
            listener.accept()


@IN_JAIL
@pytest.mark.skipif(
    os.uname().machine not in bpf.ARCHITECTURES, reason="no seccomp table for this machine"
)
@pytest.mark.parametrize(
    "payload",
    [
        "__import__('socket').socket(2, 2)",
        "__import__('os').fork()",
        "__import__('os').execv('/bin/true', ['true'])",
        "__import__('subprocess').run(['/bin/true'])",
        "__import__('os').kill(__import__('os').getppid(), 9)",
        "__import__('os').memfd_create('x')",
    ],
)
async def test_a_payload_starts_and_signals_no_process(jail, payload):
    verdict = await attempt(jail, payload)
    assert verdict.kind == "error"
    assert "PermissionError" in verdict.detail


FORGER = """
import os
from reward_server.pool import frames
for n in range(3, 20):
    try:
        os.write(n, frames.pack({answer!r}))
    except OSError:
        pass
"""


def forger(answer: bytes):
    return deed("eval", f"exec({FORGER.format(answer=answer)!r})")


@pytest.mark.parametrize("answer", [b"[]", b"nonsense", b"\xff" * 9, b'{"first": 0, "kinds": 3}'])
async def test_a_malformed_answer_of_a_worker_is_its_items_crash(answer):
    async with server({HOSTILE: 1.0}, OPTIONS, workers=1) as running:
        (got,) = await running.score([forger(answer)])
    assert got.verdicts[HOSTILE].kind == "sandbox_violation"


async def test_a_forged_answer_does_not_shift_the_answers_of_others():
    columns = b'"kinds": ["accepted"], "rewards": [9.0], "details": [""], "ns": [1], "parts": {}'
    forged = forger(b'{"first": 0, ' + columns + b"}")
    others = [deed("nothing", text=str(i)) for i in range(5)]
    async with server({HOSTILE: 1.0}, OPTIONS, workers=1) as running:
        answers = await running.score([forged, *others])
        metrics = await running.stats()
    assert [answer.reward for answer in answers[1:]] == [0, 1, 2, 3, 4]
    assert metrics["faults/reward_forged"] == 1
