"""A rank of a real run is stopped: who is awaited is told, and the error names the stacks."""

import re
import signal
from pathlib import Path

import pytest

from tests.support.whole_runs import Run, write_recipe

pytestmark = [pytest.mark.integration, pytest.mark.by_hand, pytest.mark.timeout(1200)]


def test_a_stopped_rank_is_told_before_the_deadline_and_the_error_names_the_stacks(tmp_path):
    recipe = write_recipe(tmp_path)
    waits = ("sync.timeout_s=60", "sync.stall_s=5", "restarts.rank.max_restarts=0")
    run = Run(recipe, "stopped", "run.max_steps=2000", "sync.interval=500", *waits)
    run.wait_for_step(3)
    run.kill(signal.SIGSTOP, "trainer-0")
    code, output = run.end()
    assert code == 1, output
    told = re.findall(r"learner: (\d+) s for rank 0 of 1, asked for .*\(at most 60 s\)", output)
    assert 5 <= int(told[0]) <= 10, output
    (file,) = set(re.findall(r"the stacks of all processes are in (\S+\.txt)", output))
    assert "did not answer within 60 s" in output.splitlines()[-2] + output.splitlines()[-1]
    text = Path(file).read_text()
    head, *sections = re.split(r"^== ", text, flags=re.M)
    by_name = {section.split(" ")[0]: section for section in sections}
    assert head.startswith("learner: 54 s of 60 s"), head
    assert {"the", "replay", "reward-0", "trainer-0", "worker-0.0"} <= set(by_name)
    assert "T (stopped)" in by_name["trainer-0"]
    for name in ("replay", "reward-0", "worker-0.0"):
        assert "most recent call first" in by_name[name], name
        assert "-- tasks\nTask " in by_name[name], name
    assert ", in RolloutWorker.run" in by_name["worker-0.0"]
    assert ", in ReplayBuffer.next_prompts" in by_name["replay"]
    assert len(list(Path(file).parent.iterdir())) == 1
    assert run.left() == []
