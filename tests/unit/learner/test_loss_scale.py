"""The fp16 loss scale, by hand."""

from learner.loss_scale import CEILING, FLOOR, RISE_AFTER, LossScale


def test_it_halves_on_each_overflow_down_to_one_and_says_when_it_no_longer_can():
    scale = LossScale(value=4.0)
    assert [scale.overflowed() for _ in range(4)] == [True, True, False, False]
    assert scale.value == FLOOR


def test_it_doubles_after_enough_steps_in_a_row_without_an_overflow():
    scale = LossScale(value=8.0)
    for _ in range(RISE_AFTER - 1):
        scale.held()
    scale.overflowed()
    for _ in range(RISE_AFTER - 1):
        scale.held()
    assert scale.value == 4.0, "an overflow starts the count anew"
    scale.held()
    assert scale == LossScale(value=8.0, good_steps=0)


def test_it_rises_no_further_than_its_ceiling():
    scale = LossScale(value=CEILING, good_steps=RISE_AFTER - 1)
    scale.held()
    assert scale.value == CEILING
