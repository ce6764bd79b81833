"""A folder that cannot be written to is the cause, whoever met it and in whatever words."""

import errno
import os

import pytest

from deploy.run import storage
from oapl.errors import DeadlineError, InputError, RankError, StorageError

FULL = "[Errno 28] No space left on device"


def caused(error, by):
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RankError(f"learner rank 0 of 1 failed (OSError: {FULL}) after step 8"),
        caused(RankError("learner rank 0 of 1 failed"), RuntimeError(f"Io error: {FULL}")),
    ],
    ids=["system's", "quota", "as text", "of a cause"],
)
def test_a_full_disk_is_named_with_its_folder(tmp_path, error):
    assert str(storage.cause(error, tmp_path)) == f"no space left in {tmp_path}; free some"


def test_a_full_disk_elsewhere_is_not_the_run_folder_s(tmp_path):
    error = OSError(errno.ENOSPC, "No space left on device", "/dev/shm/plasma")
    assert str(storage.cause(error, tmp_path)).startswith("no space left in /dev/shm;")


def test_a_folder_that_is_gone_is_named_whatever_failed(tmp_path):
    gone = tmp_path / "gone"
    assert f"the run folder {gone} is gone" in str(storage.cause(KeyError("x"), gone))


def test_a_folder_that_was_made_again_after_it_was_gone_is_gone_too(tmp_path):
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", tmp_path / "lines")
    assert f"the run folder {tmp_path} is gone" in str(storage.cause(missing, tmp_path))
    (tmp_path / "config.toml").touch()
    assert storage.cause(missing, tmp_path) is None


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left in"),
        (errno.EROFS, "cannot be written to (Read-only file system)"),
        (errno.EACCES, "cannot be written to (Permission denied)"),
    ],
)
def test_words_that_say_nothing_are_tried_out(tmp_path, monkeypatch, number, words):
    """PyTorch's: `unexpected pos 64 vs 0`."""

    def refuse(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", refuse)
    with pytest.raises(StorageError) as caught, storage.named(tmp_path):
        raise RankError("learner rank 0 failed (RuntimeError: unexpected pos 64 vs 0)")
    assert words in str(caught.value)
    assert isinstance(caught.value.__cause__, RankError)


@pytest.mark.parametrize(
    "error",
    [RankError("died"), DeadlineError("waited 5 s"), InputError("no"), OSError(2, "no file")],
)
def test_what_has_another_cause_stays_itself(tmp_path, error):
    assert storage.cause(error, tmp_path) is None
    with pytest.raises(type(error)), storage.named(tmp_path):
        raise error
    assert list(tmp_path.iterdir()) == []
