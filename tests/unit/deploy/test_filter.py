"""`oapl filter`: what each filter keeps, what is told of it, and that a result is whole."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from rich.console import Console

from deploy.commands import main
from deploy.filtering import choosing, running
from deploy.filters._words import words_of
from deploy.filters.base import FILTERS
from oapl import groups_file
from oapl.errors import InputError
from tests.support.storing import HEADER, stored, write

ROOT = Path(__file__).parents[3]
RIGHT, WRONG = 1.0, 0.0


def quiet(source: Path, out: Path, *filters: str, threshold: float = 0.0, **options):
    """Filters as on the command line, one text each."""
    chosen = choosing.from_words([one.split() for one in filters], threshold)
    screen = Console(file=None, quiet=True)
    return running.apply(source, out, chosen, threshold=threshold, console=screen, **options)


def left(tmp_path: Path, groups, *filters: str, threshold: float = 0.0):
    """Question to the places that stay, of each group."""
    source = write(tmp_path / "in", groups)
    quiet(source, tmp_path / "out", *filters, threshold=threshold)
    found = groups_file.read(tmp_path / "out")
    return {group.prompt.question: list(group.places) for group in found}


def findings(tmp_path: Path, name: str):
    (path,) = (tmp_path / "out").glob(f"_findings-*-{name}.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def three():
    """All right, mixed, all wrong; with 2, 3 and 4 tokens on average."""
    return [
        stored("easy", (RIGHT, RIGHT), (1, 3)),
        stored("mixed", (RIGHT, WRONG), (5, 1)),
        stored("hard", (WRONG, WRONG), (4, 4)),
    ]


@pytest.mark.parametrize(
    ("filter", "kept"),
    [
        ("all_correct", {"mixed": [0, 1], "hard": [0, 1]}),
        ("zero_variance", {"mixed": [0, 1]}),
        ("solvable", {"easy": [0, 1], "mixed": [0, 1]}),
        ("positives_only", {"easy": [0, 1], "mixed": [0]}),
        ("mean_length min_tokens=3", {"mixed": [0, 1], "hard": [0, 1]}),
        ("mean_length max_tokens=3", {"easy": [0, 1], "mixed": [0, 1]}),
        ("mean_length min_tokens=3 max_tokens=3", {"mixed": [0, 1]}),
        ("positive_length max_tokens=3", {"easy": [0, 1], "mixed": [1], "hard": [0, 1]}),
        ("answer_length max_tokens=3", {"easy": [0, 1], "mixed": [1]}),
        ("answer_length max_tokens=1", {"easy": [0], "mixed": [1]}),
    ],
)
def test_a_filter_keeps_what_it_says(tmp_path: Path, filter: str, kept):
    assert left(tmp_path, three(), filter) == kept


def test_right_is_above_the_threshold(tmp_path: Path):
    groups = [stored("partial", (0.5, 0.5)), stored("full", (1.0, 0.5))]
    assert left(tmp_path, groups, "zero_variance", threshold=0.5) == {"full": [0, 1]}


def test_difficulty_is_that_of_the_group_as_generated(tmp_path: Path):
    groups = [stored("long", (RIGHT, WRONG), (9, 1)), stored("easy", (RIGHT, RIGHT), (9, 1))]
    filters = ("positive_length max_tokens=5", "solvable", "zero_variance")
    assert left(tmp_path, groups, *filters) == {"long": [1]}
    (group,) = groups_file.read(tmp_path / "out")
    assert group.all_rewards.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ("column=judge", ["yes", "one"]),
        ("column=judge answer=other", []),
        ("verifier=math", ["yes", "blank"]),
        ("column=judge verifier=math", ["yes"]),
        ("column=judge sources=['elsewhere']", ["yes", "no", "one", "blank"]),
    ],
)
def test_ground_truth_needs_an_answer_and_a_judge_that_agrees(tmp_path: Path, options, kept):
    def group(name: str, judge, reward=WRONG, answer="7"):
        return stored(name, (reward, WRONG), reference={"answer": answer, "judge": judge})

    groups = [group("yes", True, RIGHT), group("no", "no"), group("one", 1)]
    blank = group("blank", True, RIGHT, answer="7" if options == "verifier=math" else " ")
    assert list(left(tmp_path, [*groups, blank], f"ground_truth {options}")) == kept


def test_ground_truth_names_a_column_that_is_not_there(tmp_path: Path):
    with pytest.raises(InputError, match=r"s:easy@0 has no column 'jury'; there are answer, level"):
        left(tmp_path, three(), "ground_truth column=jury")
    assert not (tmp_path / "out").exists()


def test_exact_duplicates_keep_the_first(tmp_path: Path):
    asked = {"a": "x y", "b": "x  y", "c": "x y"}
    groups = [stored(name, question=text) for name, text in asked.items()]
    quiet(write(tmp_path / "in", groups), tmp_path / "out", "exact_duplicates")
    assert list(groups_file.ids(tmp_path / "out")) == ["s:a@0", "s:b@0"]


TRAIN = "A train leaves Paris at noon and travels at 60 miles an hour; how far is it by 3 o'clock?"


def test_near_duplicates_are_dropped_with_what_they_repeat(tmp_path: Path):
    pytest.importorskip("rensa")
    groups = [
        stored("a", question=TRAIN),
        stored("b", question=TRAIN.upper().replace(";", ",") + " Explain."),
        stored("c", question="A farmer has 17 sheep, and all but 9 run away. How many stay?"),
        stored("d", question="7"),
        stored("e", question="8"),
        stored("f", question=TRAIN.partition(";")[0] + ". When is it in Rome?"),
    ]
    quiet(write(tmp_path / "in", groups), tmp_path / "out", "near_duplicates")
    assert list(groups_file.ids(tmp_path / "out")) == [f"s:{name}@0" for name in "acdef"]
    (found,) = findings(tmp_path, "near_duplicates")
    assert (found["id"], found["of"]) == ("s:b@0", "s:a@0")
    assert 0.8 <= found["similarity"] < 1


def test_near_duplicates_without_the_library_say_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package rensa: pip install 'oapl\[data\]'"):
        FILTERS.load("near_duplicates").build(FILTERS.load("near_duplicates").Config(), 0.0)


def evaluation_set(tmp_path: Path) -> str:
    """A recipe with one evaluation set of a long and a short question."""
    rows = [
        {"prompt": f"Once more: {TRAIN} Give miles.", "answer": "180"},
        {"prompt": "Add 2 and 3.", "answer": "5"},
    ]
    (tmp_path / "exam.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = tmp_path / "run.toml"
    recipe.write_text(f'[[eval.sources]]\nname = "exam"\npath = "{tmp_path}/exam.jsonl"\n')
    return f"contamination recipe={recipe}"


def questions(*texts: str):
    return [stored(str(number), question=text) for number, text in enumerate(texts)]


def test_contamination_is_found_by_a_run_of_words_and_told_with_the_text(tmp_path: Path):
    changed = TRAIN.replace("noon", "dawn")  # leaves 5 words before it and 14 behind
    eight = "A train leaves Paris at noon and travels nowhere at all"
    other = "How many sheep does the farmer have when all but 9 of his 17 have run away today?"
    asked = evaluation_set(tmp_path)
    assert set(left(tmp_path, questions(TRAIN, changed, eight, other), asked)) == {eight, other}
    whole, behind = findings(tmp_path, "contamination")
    assert whole == {
        "id": "s:0@0",
        "set": "exam",
        "place": f"{tmp_path}/exam.jsonl line 1",
        "match": " ".join(words_of(TRAIN)),
        "question": TRAIN,
    }
    assert behind["match"] == " ".join(words_of(TRAIN)[6:])


def test_eight_words_find_more_than_thirteen(tmp_path: Path):
    eight = "A train leaves Paris at noon and travels nowhere at all"
    asked = evaluation_set(tmp_path) + " words=8"
    assert left(tmp_path, questions(eight, "Something else that has nothing of it at all"), asked)
    assert [one["match"] for one in findings(tmp_path, "contamination")] == [
        "a train leaves paris at noon and travels"
    ]


def test_of_several_matches_the_longest_is_told(tmp_path: Path):
    changed = TRAIN.replace("far", "long")  # leaves 13 words before it and 6 behind
    left(tmp_path, questions(changed), evaluation_set(tmp_path) + " words=5")
    (found,) = findings(tmp_path, "contamination")
    assert found["match"] == " ".join(words_of(TRAIN.partition("far")[0]))


def test_a_short_evaluation_question_matches_as_a_whole(tmp_path: Path):
    texts = ("add 2 AND 3", "Add 2 and 3, then double it.", "Add 2 and 4.")
    assert list(left(tmp_path, questions(*texts), evaluation_set(tmp_path))) == [*texts[1:]]


def test_numbers_may_count_as_alike(tmp_path: Path):
    other = TRAIN.replace("60", "7.5").replace("3", "12")
    asked = evaluation_set(tmp_path)
    assert left(tmp_path, questions(other), asked) == {other: [0, 1, 2]}
    out = tmp_path / "alike"
    quiet(tmp_path / "in", out, f"{asked} numbers=alike")
    assert list(groups_file.ids(out)) == []


def test_contamination_can_be_reported_alone(tmp_path: Path):
    asked = evaluation_set(tmp_path) + " drop=false"
    assert list(left(tmp_path, questions(TRAIN), asked)) == [TRAIN]
    assert len(findings(tmp_path, "contamination")) == 1
    assert len(pandas.read_parquet(tmp_path / "out")) == 3, "pandas passes over report and findings"


def test_words_are_compared_without_case_accents_and_punctuation():
    told = words_of("Zoë's  \\frac{1}{2}—x_1 ≤ 3,5!")
    assert " ".join(told) == "zoe s frac 1 2 x 1 3 5"
    assert words_of("1,5 and 20", numbers="alike") == ["0", "and", "0"]


def test_the_table_counts_rows_in_and_out_right_and_wrong(tmp_path: Path):
    source = write(tmp_path / "in", three())
    screen = Console(width=120, record=True, file=(tmp_path / "screen").open("w"))
    chosen = choosing.from_words([["solvable"], ["positive_length", "max_tokens=3"]], 0.0)
    running.apply(source, tmp_path / "out", chosen, threshold=0.0, console=screen)
    text = " ".join(screen.export_text().split())
    assert "solvable │ 3 │ 2 │ 6 = 3 + 3 │ 4 = 3 + 1" in text
    assert "positive_length max_tokens=3 │ 2 │ 2 │ 4 = 3 + 1 │ 3 = 2 + 1" in text
    told = json.loads((tmp_path / "out" / "_filter.json").read_text())
    assert told["source"] == str(source)
    assert told["filters"][1] == {
        "name": "positive_length",
        "options": {"max_tokens": 3},
        "in": {"groups": 2, "rollouts": 4, "positives": 3, "negatives": 1},
        "out": {"groups": 2, "rollouts": 3, "positives": 2, "negatives": 1},
        "findings": 0,
    }


def test_the_result_is_a_set_that_says_it_was_filtered(tmp_path: Path):
    quiet(write(tmp_path / "in", three()), tmp_path / "out", "solvable")
    header = groups_file.header(tmp_path / "out")
    assert (header.made_by, header.tokenizer) == ("filter", HEADER.tokenizer)


def test_nothing_left_is_told_and_still_a_set(tmp_path: Path, capsys):
    write(tmp_path / "in", three())
    words = ["filter", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main([*words, "--filter", "answer_length", "max_tokens=1", "--filter", "solvable"]) == 0
    assert list(groups_file.ids(tmp_path / "out")) == ["s:easy@0", "s:mixed@0"]
    assert main([*words, "--overwrite", "--filter", "mean_length", "min_tokens=99"]) == 0
    assert list(groups_file.ids(tmp_path / "out")) == []
    assert "nothing is left" in capsys.readouterr().err


def test_filters_of_a_file_are_those_of_the_command_line(tmp_path: Path):
    file = tmp_path / "filters.toml"
    file.write_text(
        '[[filters]]\nname = "mean_length"\nmin_tokens = 3\n[[filters]]\nname = "solvable"\n'
    )
    write(tmp_path / "in", three())
    words = ["filter", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main([*words, "--filters", str(file)]) == 0
    assert list(groups_file.ids(tmp_path / "out")) == ["s:mixed@0"]
    by_words = choosing.from_words([["mean_length", "min_tokens=3"], ["solvable"]], 0.0)
    assert list(map(str, choosing.from_file(file, 0.0))) == list(map(str, by_words))


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        ("solvble", "--filter = 'solvble' is not one of deploy.filters; did you mean 'solvable'"),
        ("mean_length max_token=3", "--filter mean_length max_token"),
        ("answer_length", "--filter answer_length max_tokens"),
        ("answer_length max_tokens=x", "--filter answer_length max_tokens"),
        ("solvable mean_length", "--filter solvable 'mean_length': an option is key=value"),
        ("mean_length", "mean_length: min_tokens = 0, max_tokens = 0"),
        ("mean_length min_tokens=3 max_tokens=2", "max_tokens at least as large"),
        ("ground_truth", "ground_truth: nothing says whether a judge agrees"),
        ("contamination", "there are no evaluation sets to compare with"),
    ],
)
def test_what_cannot_be_a_filter_is_refused_by_name(tmp_path: Path, capsys, filter: str, said):
    write(tmp_path / "in", three())
    words = ["filter", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--filter"]
    assert main([*words, *filter.split()]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["x = 1", "[filters]\nname = 'solvable'", "filters = [1]", ""])
def test_a_file_that_is_no_list_of_filters_is_refused(tmp_path: Path, text: str):
    (tmp_path / "f.toml").write_text(text)
    with pytest.raises(InputError, match=r"must be a list of tables \[\[filters\]\]"):
        choosing.from_file(tmp_path / "f.toml", 0.0)


def test_a_result_takes_no_other_s_place(tmp_path: Path):
    source = write(tmp_path / "data" / "in", three())
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.txt").write_text("x")
    for out in (source, tmp_path / "data", other):
        with pytest.raises(InputError, match=r"--out"):
            quiet(source, out, "solvable", overwrite=True)
    quiet(source, tmp_path / "out", "solvable")
    with pytest.raises(InputError, match="exists; replace it by --overwrite"):
        quiet(source, tmp_path / "out", "solvable")
    assert (other / "precious.txt").exists()


def test_a_filter_that_ends_in_mid_set_leaves_the_old_result_and_goes_through_again(tmp_path: Path):
    source = write(tmp_path / "in", three(), rows_per_shard=2)
    quiet(source, tmp_path / "out", "solvable")
    before = sorted(path.name for path in tmp_path.iterdir())
    last = groups_file.shards(source)[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"groups-00002.parquet is damaged"):
        quiet(source, tmp_path / "out", "zero_variance", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert len(list(groups_file.ids(tmp_path / "out"))) == 2
    last.write_bytes(whole)
    (tmp_path / ".out.part").mkdir()  # of one that was killed
    (tmp_path / ".out.part" / "groups-00000.parquet").write_text("half")
    quiet(source, tmp_path / "out", "zero_variance", overwrite=True)
    assert list(groups_file.ids(tmp_path / "out")) == ["s:mixed@0"]


KILLED = """
import os, signal, sys
from pathlib import Path
from deploy.filtering import choosing, running

class Killer:
    seen = 0
    def choose(self, group):
        self.seen += 1
        if self.seen == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return solvable.filter.choose(group)

(solvable,) = choosing.from_words([["solvable"]], 0.0)
killer = choosing.Chosen(name="killer", options={}, filter=Killer())
running.apply(Path(sys.argv[1]), Path(sys.argv[2]), [killer], threshold=0.0)
"""


def test_a_filter_that_is_killed_leaves_nothing_and_the_same_command_goes_through(tmp_path: Path):
    source = write(tmp_path / "in", three() * 3, rows_per_shard=2)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, source, tmp_path / "out"], cwd=ROOT, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    quiet(source, tmp_path / "out", "solvable")
    assert list(groups_file.ids(tmp_path / "out")) == ["s:easy@0", "s:mixed@0"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_the_files_of_a_filter_are_all_tested_here():
    text = Path(__file__).read_text()
    assert [name for name in FILTERS.names() if f"{name}" not in text] == []
