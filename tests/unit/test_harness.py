"""Why lm-evaluation-harness and our verifier judge one text differently; what is recorded of it."""

import json
import sys

import pytest

from tests.harness import __main__ as harness
from tests.harness import causes, document, ours
from tests.support.peers import Peer


def test_a_text_ends_before_the_first_stop_word():
    assert causes.until("a\n\nQuestion: b</s>", ["</s>", "Question:"]) == "a\n\n"
    assert causes.until("a", ["</s>"]) == "a"


@pytest.mark.parametrize(
    ("text", "number", "is_right", "expected"),
    [
        ("It is 18.", "18", False, causes.NO_BOX),
        (r"\boxed{18}, after 3 steps", "3", True, causes.OTHER),
        (r"\boxed{17}. No, 18", "18", False, causes.OTHER),
        (r"\boxed{18.00}", "18.00", True, causes.LETTERS),
        (r"\boxed{17}", "17", True, causes.UNKNOWN),
    ],
)
def test_a_difference_has_a_cause_or_is_told_as_unknown(text, number, is_right, expected):
    (mine,) = ours.judged([text], ["18"])
    if expected is not causes.UNKNOWN:
        assert mine.is_right == is_right
    reads_right, _ = harness.equality.same(number, "18")
    assert causes.cause(mine.read, is_right, number, reads_right=bool(reads_right)) == expected


@pytest.mark.skipif(not harness.RECORD.is_file(), reason="make harness has recorded nothing yet")
def test_the_record_explains_every_difference():
    record = json.loads(harness.RECORD.read_text())
    assert record["versions"]["lm_eval"] in harness.PINS.read_text()
    assert document.PAGE.read_text() == document.page(record), "the page is of this record"
    for setting in record["settings"]:
        assert 0 <= setting["equal answers"] <= record["problems"] == setting["equal prompts"]
        for judged in setting["judged"]:
            assert causes.UNKNOWN not in judged["causes"]
            assert abs(judged["flexible"] - judged["math"]) <= sum(judged["causes"].values())


def test_a_peer_is_asked_in_an_environment_of_its_own_that_is_made_once(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    for name in ("pins.txt", "wanted.txt"):
        (tmp_path / name).write_text("lm_eval==1\n")
    script = tmp_path / "theirs.py"
    script.write_text(
        "import json, os, sys\nasked = json.load(sys.stdin)\n"
        "print(json.dumps({'asked': asked, 'ours': os.environ['PYTHONPATH']}))\n"
    )
    peer = Peer(place=tmp_path, pins=tmp_path / "wanted.txt", script=script)
    peer.install()
    assert peer.ask([1, "a"]) == {"asked": [1, "a"], "ours": ""}
