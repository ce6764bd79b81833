"""Generation and training go on side by side: measured with real Ray actors that only wait."""

import asyncio
import time

import pytest

from deploy.handles import AsyncHost, RayHandle
from oapl.config import RunConfig
from oapl.loops import learn
from tests.sleepers import BATCH_S

pytestmark = pytest.mark.integration

INTERVAL, PERIODS = 50, 3


class SleepingLearner:
    """The acts of `oapl.loops.Learner` on a trainer that waits."""

    def __init__(self, trainer, worker):
        self.step, self.version = 0, -1
        self._trainer, self._worker = trainer, worker

    async def checkpoint_if_due(self):
        pass

    async def publish(self):
        await self._worker.load(self.step)
        self.version = self.step

    async def update(self, groups):
        assert all(g.scored.group.version == self.version for g in groups)
        await self._trainer.update(self.step)
        self.step += 1
        return True

    async def report(self):
        pass


def start(ray, tmp_path, config, build, **handles):
    actor = ray.remote(AsyncHost).options(num_cpus=0.1)
    log = str(tmp_path / build)
    return RayHandle(actor.remote(f"tests.sleepers:{build}", config, log, handles))


def test_a_run_lasts_as_long_as_the_longer_of_generation_and_training(ray_cluster, tmp_path):
    config = RunConfig(
        run={"max_steps": INTERVAL * PERIODS},
        rollout={"group_size": 4},
        learner={"batch_size": 16},
        sync={"interval": INTERVAL},
    )

    async def run():
        replay = start(ray_cluster, tmp_path, config, "build_replay")
        worker = start(ray_cluster, tmp_path, config, "build_worker", replay=replay)
        trainer = start(ray_cluster, tmp_path, config, "build_trainer")
        await asyncio.gather(replay.stats(), worker.load(0), trainer.update(0))  # all are up
        collecting = asyncio.ensure_future(worker.run())
        learner = SleepingLearner(trainer, worker)
        started = time.monotonic()
        await learn(
            learner,
            replay=replay,
            groups_per_step=config.groups_per_step,
            interval=INTERVAL,
            max_steps=config.run.max_steps,
            timeout_s=30,
            stop=asyncio.Event(),
        )
        seconds = time.monotonic() - started
        await worker.stop()
        await collecting
        return seconds, await replay.counts()

    seconds, counts = asyncio.run(run())
    alone = INTERVAL * PERIODS * BATCH_S
    print(f"wall {seconds:.1f} s, either alone {alone:.1f} s, ratio {seconds / alone:.3f}")
    assert counts["trained"] == INTERVAL * PERIODS * config.groups_per_step
    assert seconds <= 1.10 * alone
