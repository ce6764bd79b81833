"""What the matrix compares, and in which order its cells are made.

All cells begin with the same model and have 12,288 rollouts of 1,536 problems, each drawn once;
what `uniform = "drop"` throws away is among them. Settings are the quickstart's, untuned for any
method; what differs is written here.

- `clip on engine log-probs` and `dapo` have the policy that sampled in the place of the proximal
  one, so that their clip sees the lag. `ppo` has an iteration of sixteen mini-batches, at whose
  beginning the proximal policy is the one that sampled.
- ReMix's counts are an eighth of the paper's, whose runs are as much longer. At 16 learner steps an
  iteration with a UTD ratio of 2 it makes 416 steps of its rollouts, 2 of 1,536 groups left over.
- A set is answered once by the warm start, and a pass over it is as many steps as a live cell has;
  right answers alone are passed over again until there are as many.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.matrix.records import Block, Method, Place

STEPS, GROUP_SIZE, GROUPS_PER_STEP = 192, 8, 8
GROUPS = STEPS * GROUPS_PER_STEP
SEEDS = (0, 1, 2)
RIGHT = 0.5
"""An answer is right where its reward, half of each of two verifiers, is above this."""
FIRST_LAGS = (1, 16, 64)
"""The columns that are filled first."""

_OAPL = {"name": "oapl", "beta1": 5.0, "beta2": 0.1}
_WITH_IS = {"name": "grpo", "importance": "token"}
_GEOMETRIC = {"name": "geometric", "threshold": RIGHT}
_CRITIC = "critic.lr=5e-4"
_REMIX = {"name": "remix", "until": 6, "lambda_delay": 6, "lambda_interval": 1}
_ITERATION = ("learner.mini_batches=8", "learner.updates_per_batch=2")
_REMIX_STEPS = 416

BLOCKS = (
    Block(
        name="lag",
        title="By policy lag: L learner steps between two publications",
        methods=(
            Method(name="oapl", objective=_OAPL),
            Method(name="grpo + token IS", objective=_WITH_IS),
        ),
        lags=(1, 4, 16, 64, 100),
    ),
    Block(
        name="sixteen",
        title="At L = 16, the others",
        methods=(
            Method(name="grpo without IS", objective={"name": "grpo"}),
            Method(
                name="clip on engine log-probs",
                objective={"name": "grpo", "ratio_to": "inference"},
            ),
            Method(
                name="dapo",
                objective={
                    "name": "grpo",
                    "ratio_to": "inference",
                    "eps_high": 0.28,
                    "aggregation": "token",
                    "uniform": "drop",
                },
            ),
            Method(
                name="ppo",
                objective={"name": "ppo"},
                overrides=("learner.mini_batches=16", _CRITIC),
            ),
            Method(
                name="remix-ppo",
                objective={**_REMIX, "on": "ppo"},
                overrides=(*_ITERATION, _CRITIC),
                steps=_REMIX_STEPS,
            ),
            Method(
                name="remix-grpo",
                objective={**_REMIX, "on": "grpo"},
                overrides=_ITERATION,
                steps=_REMIX_STEPS,
            ),
        ),
        lags=(16,),
    ),
    Block(
        name="offline",
        title="Offline, each seed on its own set",
        methods=(
            Method(name="geometric", objective=_GEOMETRIC, way="own set"),
            Method(
                name="rejection-sampling SFT",
                objective={"name": "sft"},
                way="own set",
                only_right=True,
            ),
            Method(name="oapl in two rounds", objective=_OAPL, way="two rounds"),
        ),
    ),
    Block(
        name="frozen",
        title="Five methods on one frozen set",
        methods=(
            Method(name="oapl", objective=_OAPL, way="frozen set"),
            Method(name="grpo + token IS", objective=_WITH_IS, way="frozen set"),
            Method(name="geometric", objective=_GEOMETRIC, way="frozen set"),
            Method(
                name="rejection-sampling SFT",
                objective={"name": "sft"},
                way="frozen set",
                only_right=True,
            ),
            Method(
                name="ppo",
                objective={"name": "ppo"},
                overrides=("learner.mini_batches=16", _CRITIC),
                way="frozen set",
            ),
        ),
    ),
    Block(
        name="control",
        title="Control: oapl at L = 16 with rewards shuffled within each group",
        methods=(
            Method(name="oapl, shuffled", objective=_OAPL, overrides=('reward.control="shuffle"',)),
        ),
        lags=(16,),
    ),
)
WHOLE = "matrix"
SLICES = (WHOLE, *(block.name for block in BLOCKS), "lag16")
"""What can be asked for alone; lag16 is `make lag`."""
OF_LAG16 = ("oapl", "grpo without IS", "grpo + token IS", "clip on engine log-probs")


def block_of(place: Place) -> Block:
    return next(block for block in BLOCKS if block.name == place.block)


def method_of(place: Place) -> Method:
    return next(one for one in block_of(place).methods if one.name == place.method)


def places(which: str = WHOLE) -> list[Place]:
    """All cells of a slice, in the order in which they are made.

    First the columns L = 1, 16, 64 and the frozen set, seed by seed; then one seed of the rest;
    then the rest.
    """
    found = [place for place in _every() if _is_in(place, which)]
    return sorted(found, key=lambda place: (_turn(place), place.seed))


def _every() -> Iterator[Place]:
    for block in BLOCKS:
        for lag in block.lags:
            for method in block.methods:
                for seed in SEEDS:
                    yield Place(block=block.name, method=method.name, lag=lag, seed=seed)


def _is_in(place: Place, which: str) -> bool:
    if which == "lag16":
        return place.lag == 16 and place.method in OF_LAG16 and place.seed < 2
    return which in (WHOLE, place.block)


def _turn(place: Place) -> int:
    is_first = place.block == "frozen" or (place.block == "lag" and place.lag in FIRST_LAGS)
    if is_first:
        return 0
    return 1 if place.seed == SEEDS[0] else 2
