"""Every rollout once, tokens as sampled, rows that can be told apart, equal shares for ranks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oapl.batching import PADDING, by_rollout, divide, example, make_batch, shard
from oapl.errors import InputError
from oapl.objectives.base import build
from oapl.records import Batch, Credit, CreditedGroup, MicroBatch
from tests.support.makers import make_group, make_groups

group_lengths = st.lists(
    st.lists(st.integers(1, 40), min_size=1, max_size=5), min_size=1, max_size=5
)


def credited(lengths: list[int], number: int = 0, version: int = 0, **more) -> CreditedGroup:
    """Credit numbers the rollouts: 10 * group + index."""
    scored = make_group(lengths, name=f"test:{number}@0", seed=number, version=version, **more)
    values = np.arange(len(lengths), dtype=np.float32) + 10 * number
    return CreditedGroup(scored=scored, credit=Credit(values=values))


def real(batches: list[Batch]) -> list[MicroBatch]:
    return [m for batch in batches for m in batch.micro_batches if not m.is_dummy]


def unpacked(micro_batch: MicroBatch) -> dict[float, tuple[np.ndarray, ...]]:
    """Credit to (tokens, mask, inference log-probs, positions) of each rollout."""
    found = {}
    for rollout, credit in enumerate(micro_batch.credit):
        mine = micro_batch.rollout_index == rollout
        found[float(credit)] = (
            micro_batch.token_ids[mine],
            micro_batch.response_mask[mine],
            micro_batch.inference_logprobs[mine],
            micro_batch.positions[mine],
        )
    return found


@settings(max_examples=60, deadline=None)
@given(group_lengths, st.integers(1, 4), st.sampled_from([0, 1, 16, 64]), st.integers(8, 200))
def test_every_rollout_is_in_one_place_with_the_tokens_that_were_sampled(
    lengths: list[list[int]], num_ranks: int, row_tokens: int, micro_batch_tokens: int
):
    groups = [credited(each, number) for number, each in enumerate(lengths)]
    batches = shard(
        groups,
        step=7,
        num_ranks=num_ranks,
        micro_batch_tokens=micro_batch_tokens,
        row_tokens=row_tokens,
    )
    found = [item for m in real(batches) for item in unpacked(m).items()]
    total = sum(len(each) for each in lengths)
    assert len(found) == len(dict(found)) == total
    for number, group in enumerate(groups):
        prompt = group.scored.group.prompt.token_ids
        for index, rollout in enumerate(group.scored.group.rollouts):
            token_ids, mask, logprobs, positions = dict(found)[10.0 * number + index]
            assert token_ids.tolist() == [*prompt, *rollout.token_ids]
            assert mask.tolist() == [False] * len(prompt) + [True] * len(rollout.token_ids)
            assert logprobs[len(prompt) :].tolist() == rollout.inference_logprobs.tolist()
            assert not logprobs[: len(prompt)].any()
            assert positions.tolist() == list(range(len(token_ids)))
    for batch in batches:
        assert len(batch.micro_batches) == len(batches[0].micro_batches)
        assert batch.global_rollouts == total
        assert batch.global_tokens == sum(map(sum, lengths))


@settings(max_examples=60, deadline=None)
@given(group_lengths, st.sampled_from([0, 1, 16, 64]), st.integers(8, 200))
def test_limits_hold_but_for_a_single_longer_rollout(
    lengths: list[list[int]], row_tokens: int, micro_batch_tokens: int
):
    groups = [credited(each, number) for number, each in enumerate(lengths)]
    batch = make_batch(groups, step=0, micro_batch_tokens=micro_batch_tokens, row_tokens=row_tokens)
    limit = min(row_tokens or micro_batch_tokens, micro_batch_tokens)
    for micro_batch in batch.micro_batches:
        rows, length = micro_batch.token_ids.shape
        assert rows * length <= micro_batch_tokens or rows == 1
        for index in micro_batch.rollout_index:
            several = len(set(index[index != PADDING])) > 1
            assert not several or (index != PADDING).sum() <= limit


@settings(max_examples=60, deadline=None)
@given(group_lengths, st.sampled_from([0, 1, 16, 64]))
def test_positions_restart_at_every_sequence_that_shares_its_row(
    lengths: list[list[int]], row_tokens: int
):
    groups = [credited(each, number) for number, each in enumerate(lengths)]
    batch = make_batch(groups, step=0, micro_batch_tokens=128, row_tokens=row_tokens)
    for micro_batch in batch.micro_batches:
        for index, positions in zip(micro_batch.rollout_index, micro_batch.positions, strict=True):
            changes = np.flatnonzero(np.diff(index)) + 1
            restarts = np.flatnonzero(np.diff(positions) != 1) + 1
            is_alone = len(set(index[index != PADDING])) == 1
            assert restarts.tolist() == ([] if is_alone else changes.tolist())
            assert not micro_batch.response_mask[micro_batch.rollout_index == PADDING].any()
            assert set(positions[restarts]) <= {0}


def test_ranks_get_about_the_same_number_of_tokens():
    groups = [credited([5 * i + 1 for i in range(5)], number) for number in range(8)]
    batches = shard(groups, step=0, num_ranks=3, micro_batch_tokens=128)
    loads = [sum(m.num_tokens for m in b.micro_batches if not m.is_dummy) for b in batches]
    assert max(loads) - min(loads) <= 27  # the longest sequence


def test_dummies_fill_up_ranks_that_have_fewer_micro_batches():
    batches = shard([credited([30, 2])], step=0, num_ranks=3, micro_batch_tokens=8)
    dummies = [[m.is_dummy for m in batch.micro_batches] for batch in batches]
    assert dummies == [[False], [False], [True]]
    assert batches[2].micro_batches[0].num_tokens == 8  # the shortest: 6 + 2 tokens


def test_lag_reward_and_group_are_those_of_the_rollout():
    groups = [credited([2], 0, version=3), credited([4, 9], 1, version=5)]
    (micro_batch,) = make_batch(groups, step=9, micro_batch_tokens=100).micro_batches
    order = np.argsort(micro_batch.credit)
    assert micro_batch.credit[order].tolist() == [0, 10, 11]
    assert micro_batch.lag[order].tolist() == [6, 4, 4]
    assert micro_batch.group_index[order].tolist() == [0, 1, 1]
    assert micro_batch.reward[order].tolist() == [1, 1, 0]


@pytest.mark.parametrize("row_tokens", [1, 64])
def test_scores_are_divided_among_the_rollouts_of_the_groups_that_are_asked_for(row_tokens: int):
    # The score of a token is its rollout's credit, 10 * group + place, and a thousandth of where it
    # stands in prompt and response.
    groups = [credited([3, 9, 5], 0), credited([7, 2], 1), credited([4, 4], 2)]
    batches = shard(
        groups,
        step=0,
        num_ranks=2,
        micro_batch_tokens=48,
        row_tokens=row_tokens,
        kept_groups=(0, 2),
    )
    found = {}
    for micro_batch in real(batches):
        credit = micro_batch.credit[micro_batch.rollout_index[micro_batch.response_mask]]
        scores = credit + micro_batch.positions[micro_batch.response_mask] / 1000
        for one in by_rollout(micro_batch, scores, batches[0].kept_groups):
            found[one.group_index, one.place] = one.logprobs
    assert {*found} == {(0, 0), (0, 1), (0, 2), (2, 0), (2, 1)}
    for (group, place), scores in found.items():
        rollout = groups[group].scored.group.rollouts[place]
        begins = len(groups[group].scored.group.prompt.token_ids)
        expected = 10 * group + place + (begins + np.arange(len(rollout.token_ids))) / 1000
        np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_history_is_known_by_rollout():
    groups = [credited([2], 0), replace(credited([4, 9], 1), is_history=True)]
    (micro_batch,) = make_batch(groups, step=9, micro_batch_tokens=100).micro_batches
    order = np.argsort(micro_batch.credit)
    assert micro_batch.is_history[order].tolist() == [False, True, True]


def mixed(fresh: int, history: int) -> list[CreditedGroup]:
    groups = [credited([1], number) for number in range(fresh + history)]
    return [replace(g, is_history=number >= fresh) for number, g in enumerate(groups)]


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 9))
def test_a_take_is_divided_whole_and_in_order_with_its_share_of_history_everywhere(
    fresh: int, history: int, size: int
):
    take = mixed(fresh, history)
    parts = divide(take, size)
    assert sorted(g.id for part in parts for g in part) == sorted(g.id for g in take)
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    together = [group for part in parts for group in part]
    for is_history in (False, True):
        ours = [g.id for g in together if g.is_history is is_history]
        assert ours == [g.id for g in take if g.is_history is is_history]
    for part in parts:
        exact = len(part) * history / len(take)
        assert abs(sum(group.is_history for group in part) - exact) < 1


def test_without_history_mini_batches_are_slices():
    take = mixed(7, 0)
    assert divide(take, 3) == [tuple(take[:3]), tuple(take[3:6]), tuple(take[6:])]


def test_packing_wastes_little():
    groups = make_groups(build({"name": "oapl"}), num_groups=16, group_size=8, longest=50)
    batch = make_batch(groups, step=0, micro_batch_tokens=1024, row_tokens=128)
    size = sum(m.token_ids.size for m in batch.micro_batches)
    assert sum(m.num_tokens for m in batch.micro_batches) / size > 0.9


def test_an_example_to_imitate_is_a_group_of_one_with_credit_one():
    scored = make_group([4])
    group = example(scored.group.prompt, replace(scored.group.rollouts[0], inference_logprobs=None))
    batch = make_batch([group], step=12, micro_batch_tokens=64)
    (micro_batch,) = batch.micro_batches
    assert micro_batch.credit.tolist() == [1.0]
    assert micro_batch.response_mask.sum() == 4
    recorded = micro_batch.inference_logprobs
    assert np.isnan(recorded[micro_batch.response_mask]).all(), "none are known"
    assert not recorded[~micro_batch.response_mask].any()
    assert (batch.global_rollouts, batch.global_tokens) == (1, 4)


def test_refused_are_no_groups_several_temperatures_and_empty_responses():
    with pytest.raises(InputError, match="0 rollouts"):
        make_batch([], step=0, micro_batch_tokens=64)
    mixed = [credited([2], 0), credited([2], 1, temperature=0.5)]
    with pytest.raises(InputError, match=r"temperatures \[0.5, 1.0\]"):
        make_batch(mixed, step=0, micro_batch_tokens=64)
    with pytest.raises(InputError, match="above 0"):
        make_batch([credited([2], temperature=0.0)], step=0, micro_batch_tokens=64)
    with pytest.raises(InputError, match="response of 0"):
        make_batch([credited([2, 0])], step=0, micro_batch_tokens=64)
    with pytest.raises(InputError, match="prompt of 0"):
        make_batch([credited([2], prompt_length=0)], step=0, micro_batch_tokens=64)
