"""Groups that `oapl generate` was given are stored however it ends."""

import asyncio
import errno
import sys
import threading

import pytest

from deploy.run.shelf import shelf
from oapl import groups_file
from oapl.errors import ReplayError
from oapl.groups_file import Header, Writer
from tests.support.makers import make_group

SHARDS = sys.modules["oapl.groups_file.shards"]
HEADER = Header(model="m", tokenizer="t", template="", made_by="generate", logprobs="sampled")


def group(number):
    return make_group([3, 4], name=f"q{number}", version=0)


def there(folder):
    return sorted(groups_file.ids(folder)) if groups_file.is_set(folder) else []


async def put(folder, numbers, then=None, held_s=600.0):
    async with shelf(folder, HEADER, held_s) as stored:
        for number in numbers:
            await stored.put(group(number))
        if then is not None:
            await then()


async def fail():
    raise ReplayError("replay died")


async def test_what_was_put_is_stored_when_the_prompt_queue_is_lost(tmp_path):
    with pytest.raises(ReplayError):
        await put(tmp_path, range(3), fail)
    assert there(tmp_path) == ["q0", "q1", "q2"]
    await put(tmp_path, [3])
    assert there(tmp_path) == ["q0", "q1", "q2", "q3"], "and gone on with"


async def test_a_loss_before_the_first_group_leaves_no_set(tmp_path):
    with pytest.raises(ReplayError):
        await put(tmp_path, [], fail)
    assert not groups_file.is_set(tmp_path)
    await put(tmp_path, [])
    assert groups_file.is_set(tmp_path), "one that ends says what it is"


async def test_a_signal_that_ends_it_while_a_shard_is_written_stores_each_group_once(
    tmp_path, monkeypatch
):
    begun, goes_on, write = threading.Event(), threading.Event(), SHARDS.write_shard

    written = []

    def slowly(*arguments):
        written.append(arguments[0].name)
        begun.set()
        assert goes_on.wait(10)
        write(*arguments)

    monkeypatch.setattr(SHARDS, "write_shard", slowly)
    putting = asyncio.create_task(put(tmp_path, range(3), held_s=0.0))
    assert await asyncio.to_thread(begun.wait, 10)
    putting.cancel()
    asyncio.get_running_loop().call_later(0.1, goes_on.set)
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert there(tmp_path) == ["q0"]
    assert written == ["groups-00000.parquet"], "once, by one thread"


async def test_a_full_disk_is_told_by_the_error_that_met_it_first(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Writer, "flush", full)
    with pytest.raises(ReplayError):
        await put(tmp_path, range(2), fail)
    with pytest.raises(OSError, match="No space left"):
        await put(tmp_path, range(2), held_s=0.0)


async def test_groups_are_written_when_they_have_been_held_for_long_enough(tmp_path):
    async with shelf(tmp_path, HEADER, 0.0) as stored:
        await stored.put(group(0))
        assert there(tmp_path) == ["q0"]
