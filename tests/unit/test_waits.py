"""No wait without a deadline: the packages are walked, and what may wait for ever says why.

What is listed waits for the end of a life (its own process's, or the run's), for tasks of which
each part has its deadline, or on a socket whose other end dies with it. Locks within a process are
no waits here: what is done under them does not wait.
"""

from pathlib import Path

import pytest

from tests.support.naked_waits import naked_waits

ROOT = Path(__file__).parents[2]
PACKAGES = ("oapl", "actors", "learner", "reward_server", "deploy")
OWN_TASKS = "tasks of this process: each of their waits has its own deadline"
LIFE = "as long as the process lives: whoever ends it ends the wait"
PARENT = "a child that its parent feeds: it ends with the socket, and with the parent by the kernel"
CALLER = "bounded by the caller, as the docstring says"
ALLOWED = {
    "learner/saving.py:Saving._found:committing.result": "of a task that is done",
    "oapl/loops.py:collect:asyncio.wait": OWN_TASKS,
    "oapl/remote/open_waits.py:OpenWaits.awaiting:self._outer.get": "a context variable: no wait",
    "oapl/remote/waiting.py:unless:stop.wait": "until the other of two waits, which has a deadline",
    "oapl/remote/waiting.py:unless:asyncio.wait": "until what it was given, which has a deadline",
    "oapl/remote/waiting.py:in_thread_of_its_own.call:threading.Event.wait": LIFE,
    "oapl/tracking/wandb_sink.py:WandbSink._send:self._waiting.get": LIFE,
    "oapl/weights/collective.py:Sender._serve:TCPStore": "serves, and waits for nobody",
    "actors/engines/_vllm/stepping.py:SteppingThread._take_in:self._inbox.get": LIFE,
    "actors/engines/vllm_async.py:VllmAsync._generate:self._gate.wait": (
        "for a load in progress, which ends within sync.timeout_s and then opens the gate"
    ),
    "actors/engines/vllm_async.py:VllmAsync._nothing_in_flight:asyncio.wait": (
        "inside `base.drain`, which has a deadline"
    ),
    "actors/engines/vllm_async.py:VllmAsync._abort_in_flight:asyncio.wait": (
        "inside the load's timeout, or of `close`, which has one"
    ),
    "actors/engines/vllm_async.py:VllmAsync._shut_down:asyncio.wait": "tasks that were cancelled",
    "actors/worker.py:RolloutWorker.run:asyncio.wait": LIFE,
    "actors/worker.py:RolloutWorker._collect:self._stop.wait": LIFE,
    "actors/worker.py:RolloutWorker._no_load:self._lock.acquire": (
        "for a load or a rebuild, each within sync.timeout_s"
    ),
    "actors/worker.py:RolloutWorker._next_version:event.wait": LIFE,
    "actors/worker.py:RolloutWorker._next_version:asyncio.wait": LIFE,
    "learner/evaluations.py:Beside.settle:asyncio.wait": OWN_TASKS,
    "learner/publication.py:Publications.settle:asyncio.wait": OWN_TASKS,
    "learner/ranks.py:_error:task.exception": "of a task that is done",
    "reward_server/pool/backlog.py:Backlog.wait:self._work.wait": LIFE,
    "reward_server/pool/backlog.py:Backlog._wait_for_room:self._room.wait": (
        "inside the timeout of `Backlog.call`, reward.max_wait_s"
    ),
    "reward_server/pool/slot.py:Slot._turn:self._backlog.wait": LIFE,
    "reward_server/pool/fork_server.py:ForkServer._request:socket.recv_fds": PARENT,
    "reward_server/pool/fork_server.py:ForkServer._reap:os.waitpid": "with WNOHANG",
    "reward_server/pool/forks.py:Forks._read:socket.recv_fds": "a socket that does not block",
    "reward_server/pool/frames.py:_exactly:connection.recv": PARENT,
    "reward_server/sandbox/probe.py:_answer:os.waitpid": "a child that was killed a line before",
    "reward_server/sandbox/runner.py:Sandbox._hear:self._control.recv": "after `settimeout`",
    "reward_server/sandbox/zygote.py:Zygote._heed:socket.recv_fds": PARENT,
    "deploy/processes/on_ray.py:RayProcesses.ping:process.actor.ping.remote": CALLER,
    "deploy/recipes/toy_judge.py:module:threading.Event.wait": LIFE,
    "deploy/run/folders.py:_flock:fcntl.flock": "with LOCK_NB",
    "deploy/run/generation.py:_run:buffer.handle.first_failure": (
        "a handle of replay has a limit of its own, `on_ray.CALL_GRACE_S`"
    ),
    "deploy/run/lifetime.py:unless_failed:asyncio.wait": "the run itself, with all its deadlines",
    "deploy/run/answering.py:_Asked.evaluate:handle.evaluate": (
        "`Workers.evaluate` gives it eval.timeout_s"
    ),
    "deploy/run/workers.py:Workers.load.first:self._changed.wait_for": (
        "`Workers.load` gives it sync.timeout_s"
    ),
    "deploy/run/workers.py:Workers._watched:asyncio.wait": (
        "a worker's life, which its pulse ends when it is silent"
    ),
    "deploy/run/workers.py:Workers._act:member.process.handle.run": (
        "a worker's life, which its pulse ends when it is silent"
    ),
    "deploy/run/workers.py:Workers._load:self._changed.wait_for": (
        "for the run's first publication, on which the learner's own deadlines lie"
    ),
    "deploy/run/workers.py:Workers._await_current.some:self._changed.wait_for": (
        "`_await_current` gives it sync.timeout_s"
    ),
    "deploy/sweeping/child.py:run:signals.process.wait": "a run, however long it takes",
}


def _found():
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield from naked_waits(file, ROOT)


def test_no_wait_is_without_a_deadline_but_those_that_say_why():
    found = list(_found())
    naked = [
        f"{wait.path}:{wait.line}: {wait.place}" for wait in found if wait.place not in ALLOWED
    ]
    assert not naked, "these wait for ever; give them a deadline, or a reason in ALLOWED"
    gone = set(ALLOWED) - {wait.place for wait in found}
    assert not gone, "these wait no more; take them from ALLOWED"


@pytest.mark.parametrize(
    "line",
    [
        "ray.get(ref)",
        "ray.wait(refs, num_returns=2)",
        "future.result()",
        "thread.join()",
        "event.wait()",
        "lock.acquire()",
        "inbox.get()",
        "process.communicate()",
        "subprocess.run(['true'])",
        "subprocess.check_output(['true'])",
        "socket.create_connection((host, port))",
        "connection.recv(1)",
        "urllib.request.urlopen(place)",
        "torch.distributed.init_process_group('gloo')",
        "openai.AsyncOpenAI(base_url=place)",
        "fcntl.flock(file, fcntl.LOCK_EX)",
        "async def f(): await actor.start.remote()",
        "async def f(): await member.process.handle.load(weights)",
        "async def f(): await asyncio.wait(tasks)",
        "async def f():\n    async with asyncio.timeout(5):\n        def g(): event.wait()",
    ],
)
def test_a_wait_for_ever_is_found(line, tmp_path):
    (tmp_path / "one.py").write_text(line)
    assert len(list(naked_waits(tmp_path / "one.py", tmp_path))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "ray.get(ref, timeout=3)",
        "future.result(3)",
        "thread.join(timeout=3)",
        "', '.join(words)",
        "table.get('key')",
        "subprocess.run(['true'], timeout=3)",
        "socket.create_connection((host, port), 3)",
        "async def f(): await within(3, actor.start.remote(), 'it to start')",
        "async def f(): await asyncio.wait_for(event.wait(), 3)",
        "async def f():\n    async with asyncio.timeout(3):\n        await event.wait()",
        "async def f(): return task.result()",
    ],
)
def test_a_wait_with_a_limit_is_none(line, tmp_path):
    (tmp_path / "one.py").write_text(line)
    assert not list(naked_waits(tmp_path / "one.py", tmp_path))
