"""What must hold of a run after all that was done to it: a case of its own."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter

from oapl.tracking import rollouts
from tests.chaos.chain import Chain
from tests.chaos.making import by_itself, cases_of
from tests.chaos.records import GoesOn, Row
from tests.support.run_files import steps

GROUPS_PER_STEP = 4
ROLLOUTS_PER_GROUP = 4
LIMIT_S = 3600.0


_ended = cases_of(
    "",
    detected_by="the comparison at its end",
    goes_on=GoesOn.UNHARMED,
)
_ALL = by_itself("all of the above that were done to it", "one after the other")
ENDINGS = {
    "imitation": _ended("imitation-ending", "parameters of the run of two ranks at its end", _ALL),
    "live": _ended("live-ending", "draws of the run with an engine at its end", _ALL),
}


def ending(chain: Chain, seed: int, number: int) -> Row:
    """Stop the run, and compare."""
    evidence, why = f"{number} cases were done to it", ""
    try:
        chain.alive()
        chain.remains.look()
        assert chain.process is not None
        chain.process.send_signal(signal.SIGTERM)
        assert chain.end(240) == 143, chain.output[-3000:]
        assert not (left := chain.remains.left(120)), f"left behind: {left}"
        evidence += f"; {chain.step} steps, each in metrics.jsonl once; nothing is left behind"
        compare = _compare_parameters if chain.plan.imitates else _compare_draws
        evidence += f"; {compare(chain)}"
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        why = f"{type(error).__name__}: {error}"
    return Row(
        name=ENDINGS[chain.plan.name].name,
        outcome="failed" if why else "ok",
        why=why,
        evidence=evidence,
        seed=seed,
        chain=chain.plan.name,
    )


def _compare_parameters(chain: Chain) -> str:
    import torch
    from safetensors.torch import load_file

    made = steps(chain.folder)
    assert made == list(range(1, len(made) + 1)), made
    other = chain.folder.with_name("undisturbed")
    words = [*chain.words(f"run.max_steps={made[-1]}"), "run.name=undisturbed"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = (load_file(run / "model/model.safetensors") for run in (chain.folder, other))
    assert ours.keys() == theirs.keys()
    far = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), f"apart by {far:g}"
    return (
        f"parameters equal those of a run of {made[-1]} steps that nothing was done to, bit by bit"
    )


def _compare_draws(chain: Chain) -> str:
    """Each draw was trained on once; with surplus 0 a period takes just the draws it needs."""
    made = steps(chain.folder)
    assert made == list(range(1, len(made) + 1)), made
    times = Counter(row["id"] for row in rollouts.read(chain.folder))
    assert set(times.values()) == {ROLLOUTS_PER_GROUP}, times.most_common(3)
    assert len(times) == len(made) * GROUPS_PER_STEP, (len(times), len(made))
    return f"{len(times)} draws were trained on, each once"
