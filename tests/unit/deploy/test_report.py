"""`oapl report`: where the page goes, and what is said of bad input."""

import pytest

from deploy.commands import main
from tests.support import run_folders


def test_the_page_of_a_run_lies_in_its_folder(tmp_path, capsys):
    folder = run_folders.make(tmp_path / "a", steps=3)
    assert main(["report", str(folder), "--figure", "lag"]) == 0
    assert "Lag and idle" in (folder / "report.html").read_text()
    assert "report.html (0." in capsys.readouterr().out


def test_a_figure_of_the_users_own_is_drawn(tmp_path, monkeypatch):
    (tmp_path / "my_figure.py").write_text(
        "from oapl.reports.base import About, Absent\n"
        'DECLARES = About(title="Mine", section="policy", place=99, reads="It.")\n'
        "def draw(study):\n"
        '    return Absent("these runs have nothing of mine")\n'
    )
    (tmp_path / "pack").mkdir()
    (tmp_path / "my_figure.py").rename(tmp_path / "pack" / "mine.py")
    monkeypatch.syspath_prepend(tmp_path)
    folder, out = run_folders.make(tmp_path / "a", steps=3), tmp_path / "x" / "page.html"
    assert main(["report", str(folder), "--figure", "pack.mine", "--out", str(out)]) == 0
    assert "<b>Mine</b> is not drawn: these runs have nothing of mine." in out.read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{a}", "{b}"], "2 runs, and no place for their page; give --out"),
        (["{a}/none"], "holds no metrics of a run"),
        (["{a}", "--figure", "lagg"], "did you mean 'lag'"),
        (["{a}", "{a}", "--out", "x"], "is named twice"),
    ],
)
def test_bad_input_is_one_error_and_exit_code_2(words, says, tmp_path, capsys):
    places = {name: run_folders.make(tmp_path / name, steps=3) for name in "ab"}
    assert main(["report", *(word.format(**places) for word in words)]) == 2
    assert says in capsys.readouterr().err
