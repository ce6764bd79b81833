"""Stored groups: what is written comes back, and what is damaged or foreign is refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oapl import groups_file
from oapl.errors import InputError
from oapl.groups_file import StoredGroup, Writer
from oapl.objectives import grpo
from tests.support.storing import HEADER, stored, write


def named(names: str = "abcd", logprobs: bool = True) -> list[StoredGroup]:
    return [stored(name, logprobs=logprobs) for name in names]


def plain(value):
    """Records as dictionaries and arrays as lists with their type, to compare by ==."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.tolist()
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def test_what_is_written_comes_back(tmp_path: Path):
    with_array = stored("a", reference={"answer": "7", "array": np.arange(2)})
    groups = [with_array, stored("b", (0.25,), (0,)), stored("c")]
    groups[2] = dataclasses.replace(groups[2], step=8, credit=np.array([1, 2, 3], np.float32))
    scored = tuple(np.array([-0.5, place, np.nan], np.float32) for place in range(3))
    groups[2] = dataclasses.replace(groups[2], learner_logprobs=scored)
    back = list(groups_file.read(write(tmp_path, groups)))
    np.testing.assert_equal(back[2].learner_logprobs, scored)
    groups[2] = dataclasses.replace(groups[2], learner_logprobs=None)  # NaN is equal to nothing
    back[2] = dataclasses.replace(back[2], learner_logprobs=None)
    with_array.prompt.reference["array"] = [0, 1]  # type: ignore[index]
    assert [plain(group) for group in back] == [plain(group) for group in groups]
    assert plain(back[0].scored().group.rollouts) == plain(groups[0].rollouts)
    assert groups_file.header(tmp_path) == HEADER
    assert list(groups_file.ids(tmp_path)) == ["s:a@0", "s:b@0", "s:c@0"]


def test_a_set_without_logprobs_gives_none_back(tmp_path: Path):
    write(tmp_path, named(logprobs=False), dataclasses.replace(HEADER, logprobs=None))
    assert {r.inference_logprobs for g in groups_file.read(tmp_path) for r in g.rollouts} == {None}


def test_a_set_of_the_first_format_is_read_and_gone_on_with(tmp_path: Path):
    write(tmp_path, named("a"))
    (old,) = groups_file.shards(tmp_path)
    table = pq.read_table(old).drop_columns(["learner_logprobs"])
    said = json.dumps(dataclasses.asdict(HEADER) | {"format": 1})
    pq.write_table(table.replace_schema_metadata({b"oapl": said}), old)
    new = dataclasses.replace(stored("b", (1.0,)), learner_logprobs=(np.ones(3, np.float32),))
    write(tmp_path, [new])
    first, second = groups_file.read(tmp_path)
    assert first.learner_logprobs is None
    assert second.learner_logprobs[0].tolist() == [1.0] * 3
    assert list(groups_file.ids(tmp_path)) == ["s:a@0", "s:b@0"]
    before = list(groups_file.read_shard(old))
    groups_file.write_shard(old, before, groups_file.header(tmp_path))  # as a resume does
    assert len(list(groups_file.read(tmp_path))) == 2


def test_what_a_filter_left_keeps_the_learners_logprobs():
    scored = tuple(np.full(3, place, np.float32) for place in range(3))
    left = dataclasses.replace(stored(), learner_logprobs=scored)
    left = left.keeping(np.array([False, True, True]))
    assert [values[0] for values in left.learner_logprobs] == [1.0, 2.0]


def test_a_group_is_never_split_over_shards(tmp_path: Path):
    write(tmp_path, named(), rows_per_shard=4)  # of three rollouts each
    ids = [pq.read_table(path)["id"].to_pylist() for path in groups_file.shards(tmp_path)]
    assert ids == [["s:a@0"] * 3 + ["s:b@0"] * 3, ["s:c@0"] * 3 + ["s:d@0"] * 3]


def test_groups_of_one_prompt_in_a_row_stay_two(tmp_path: Path):
    write(tmp_path, named("aa"))
    assert [len(group.rollouts) for group in groups_file.read(tmp_path)] == [3, 3]
    assert list(groups_file.ids(tmp_path)) == ["s:a@0", "s:a@0"]


def test_a_writer_goes_on_behind_the_shards_that_are_whole(tmp_path: Path):
    killed = Writer(tmp_path, HEADER, rows_per_shard=6)
    for name in "abc":
        killed.add(stored(name))  # c is in no shard yet
    (tmp_path / ".groups-00001.parquet.part").write_text("half")
    assert list(groups_file.ids(tmp_path)) == ["s:a@0", "s:b@0"]
    write(tmp_path, named("cd"))
    assert [group.prompt.question for group in groups_file.read(tmp_path)] == list("abcd")


def test_a_writer_refuses_a_set_of_another_tokenizer(tmp_path: Path):
    write(tmp_path, named())
    with pytest.raises(InputError, match=r"tokenizer is 'u', but .* says 't'"):
        Writer(tmp_path, dataclasses.replace(HEADER, tokenizer="u"))


@pytest.mark.parametrize("logprobs", [None, "scored"])
def test_a_writer_refuses_logprobs_that_its_header_does_not_name(tmp_path: Path, logprobs):
    writer = Writer(tmp_path, dataclasses.replace(HEADER, logprobs=logprobs))
    with pytest.raises(ValueError, match="have log-probs"):
        writer.add(stored("a", logprobs=logprobs is None))


def test_a_set_without_groups_still_says_what_it_is(tmp_path: Path):
    write(tmp_path, [])
    assert groups_file.header(tmp_path) == HEADER
    assert list(groups_file.read(tmp_path)) == []


def test_pandas_alone_reads_a_set(tmp_path: Path):
    frame = pd.read_parquet(write(tmp_path, named()))
    assert frame.groupby("id").reward.mean().round(3).tolist() == [0.667] * 4
    assert json.loads(frame.verdicts[0])["math"]["kind"] == "accepted"
    assert frame.token_ids[1].tolist() == [1, 2, 3]


def test_credit_is_that_among_all_rollouts_as_generated():
    # Rewards 1, 0, 1: the mean is 2/3, and stays so when one of the right ones is taken out.
    left = stored().keeping(np.array([True, True, False]))
    options = grpo.Config(scale="none", uniform="keep")
    credited = left.credited(grpo.Objective(options).credit)
    np.testing.assert_allclose(credited.credit.values, [1 / 3, -2 / 3], rtol=1e-6)
    assert credited.scored.rewards.tolist() == [1.0, 0.0]


def test_what_a_filter_left_keeps_its_places(tmp_path: Path):
    left = stored().keeping(np.array([False, True, True])).keeping(np.array([False, True]))
    (back,) = groups_file.read(write(tmp_path, [left]))
    assert (back.places, back.rewards.tolist()) == ((2,), [1.0])
    assert back.all_rewards.tolist() == [1.0, 0.0, 1.0]
    assert [kinds["math"] for kinds in back.all_kinds] == ["accepted", "wrong_answer", "accepted"]
    assert back.rollouts[0].text == "answer 2 ü"


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Of tokens that nothing can compress, so that a checksum alone tells of a changed bit."""
    tokens = np.random.default_rng(0).integers(2**31, size=4096, dtype=np.int32)
    group = stored("r", (1.0,))
    rollout = dataclasses.replace(
        group.rollouts[0], token_ids=tokens, inference_logprobs=np.zeros(4096, np.float32)
    )
    groups_file.write_shard(path, [dataclasses.replace(group, rollouts=(rollout,))], HEADER)
    data = bytearray(path.read_bytes())
    data[data.index(tokens[2048:2052].tobytes())] ^= 1
    path.write_bytes(data)


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), path)


def with_header(**changes):
    def change(path: Path) -> None:
        said = dataclasses.asdict(HEADER) | changes
        table = pq.read_table(path).replace_schema_metadata({b"oapl": json.dumps(said)})
        pq.write_table(table, path)

    return change


def without_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["place"]), path)


def gone(path: Path) -> None:
    path.with_name("groups-00000.parquet").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (halve, "groups-00001.parquet is damaged, or was written in half"),
        (flip, "groups-00001.parquet is damaged"),
        (foreign, "groups-00001.parquet is a Parquet file, but no shard of stored groups"),
        (with_header(format=3), "groups-00001.parquet has format 3, this oapl reads 1 to 2"),
        (with_header(template="x"), "groups-00001.parquet: template is 'x', but .*00000.* says"),
        (without_column, r"place is missing, not int32"),
        (gone, "lacks groups-00000.parquet but has groups-00001.parquet"),
    ],
)
def test_a_spoilt_shard_is_refused_by_name(tmp_path: Path, spoil, said: str):
    write(tmp_path, named())
    spoil(tmp_path / "groups-00001.parquet")
    with pytest.raises(InputError, match=said):
        list(groups_file.read(tmp_path))


@pytest.mark.parametrize("folder", ["missing", "."])
def test_a_folder_without_shards_is_refused(tmp_path: Path, folder: str):
    with pytest.raises(InputError, match=r"no folder|holds no stored groups"):
        groups_file.header(tmp_path / folder)
