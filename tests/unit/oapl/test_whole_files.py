"""What is written aside is whole or absent, file and folder alike."""

import pytest

from oapl.whole_files import written_aside


def make(part, kind, text):
    if kind == "folder":
        part.mkdir()
        part = part / "inside"
    part.write_text(text)


def text_of(path):
    return (path / "inside" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_reader_sees_the_old_or_the_new_and_nothing_beside(tmp_path, kind):
    path = tmp_path / "above" / "it.json"
    for text in ("old", "new"):
        with written_aside(path) as part:
            make(part, kind, text)
            assert not path.exists() or text_of(path) == "old"
        assert text_of(path) == text
    assert [found.name for found in path.parent.iterdir()] == ["it.json"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_block_that_raises_leaves_the_old_one(tmp_path, kind):
    path = tmp_path / "it"
    make(path, kind, "old")

    def fail():
        with written_aside(path) as part:
            make(part, kind, "half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert text_of(path) == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["it"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".it.part").mkdir()
    (tmp_path / ".it.part" / "half").write_text("half")
    with written_aside(tmp_path / "it") as part:
        part.write_text("whole")
    assert [found.name for found in tmp_path.iterdir()] == ["it"]


def test_a_block_that_wrote_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), written_aside(tmp_path / "it"):
        pass
