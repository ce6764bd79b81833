"""DeepSpeed's engines as they are built, and what a step does to a parameter that it did not use.

One weight w of 2.0, rate 0.1, decay 0.5, betas 0.9 and 0.95, the same gradient in each step that
uses it: AdamW makes w * 0.95 - 0.1 of it, 1.8 and then 1.61, once and however often it is built.
"""

from collections.abc import Iterator

import pytest

from learner import zero_engine
from tests.support import ranks
from tests.support.partly_used import config, walk

pytestmark = pytest.mark.integration

KINDS = [(stage, precision) for precision in ("fp32", "bf16", "fp16") for stage in range(4)]
TOLERANCE = {"fp32": 1e-5, "fp16": 1e-5, "bf16": 8e-3}
"""bf16 near 2 has steps of 2^-7."""


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    with ranks.everything_sharded():
        zero_engine.join(
            config(1, "fp32"), rank=0, world_size=1, master_address="127.0.0.1", master_port=0
        )
        yield
        zero_engine.leave()


@pytest.mark.parametrize(("stage", "precision"), KINDS)
def test_an_engine_begins_with_the_weights_that_it_was_given(stage: int, precision: str):
    found = walk(config(stage, precision), [True, True], rates=[0.0, 0.1])
    assert found["always"][:2] == [2.0, 2.0]
    # Step 2 after one at rate 0: moments of two equal gradients, so again w * 0.95 - 0.1.
    assert found["always"][2] == pytest.approx(1.8, abs=TOLERANCE[precision])


@pytest.mark.parametrize(("stage", "precision"), KINDS)
def test_what_a_step_does_not_use_stands_still(stage: int, precision: str):
    found = walk(config(stage, precision), [True, False, False, True])
    close = {"abs": TOLERANCE[precision]}
    assert found["always"] == pytest.approx([2.0, 1.8, 1.61, 1.4295, 1.258025], **close)
    assert found["never"] == [2.0] * 5
    first, *still, last = found["sometimes"]
    assert (first, still) == (2.0, [still[0]] * 3)
    # Its moments are those of two gradients, Adam's count is 4:
    # 0.19 / (1 - 0.9^4) / sqrt(0.0975 / (1 - 0.95^4)) = 0.76203 of the rate.
    assert [still[0], last] == pytest.approx([1.8, 1.8 * 0.95 - 0.076203], **close)
    # 20 numbers of 2 each, one of two parts: sqrt(20 * 4); both: sometimes has half.
    assert found["norm"] == pytest.approx([10.0, 80**0.5, 80**0.5, 10.0], rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", range(4))
def test_a_gradient_that_is_not_finite_does_not_outlast_its_step(stage: int, precision: str):
    found = walk(config(stage, precision), [True, False, True], broken=[0])
    assert found["norm"][0] == float("inf")
    assert found["norm"][1:] == pytest.approx([80**0.5, 10.0], rel=1e-3)
    assert found["sometimes"][:3] == [2.0] * 3


def test_offloaded_parameters_stand_still_too():
    for stage, offload in ((1, "optimizer"), (2, "optimizer"), (3, "optimizer"), (3, "all")):
        found = walk(config(stage, "fp32", offload=offload), [True, False, True])
        assert found["never"] == [2.0] * 4
        assert found["sometimes"][1:3] == [pytest.approx(1.8, abs=1e-5)] * 2
        assert found["norm"] == pytest.approx([10.0, 80**0.5, 10.0], rel=1e-3)
