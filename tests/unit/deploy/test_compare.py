"""`oapl compare`: by problem, over seeds, and before a run."""

import json
import math

import numpy as np
import pytest

from deploy.commands import main
from oapl.comparison.power import EVEN, smallest_difference
from tests.support.evaluated import answered, protocol, write_run

PROBLEMS = 40


def rewards(seed: int, gain: float = 0.0) -> np.ndarray:
    """float [PROBLEMS, 4]: problems that are harder and easier, the same ones for every seed."""
    rates = np.clip(np.linspace(0.1, 0.7, PROBLEMS) + gain, 0, 1)
    draws = np.random.default_rng(seed)
    return (draws.uniform(size=(PROBLEMS, 4)) < rates[:, None]).astype(float)


def evaluation(seed: int, gain: float = 0.0, source: str = "sums", *, greedy: bool = False):
    return [
        answered(f"problem {i}", row, float(row[0]) if greedy else None, source=source)
        for i, row in enumerate(rewards(seed, gain))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def pair(folder):
    a = write_run(folder / "a", "eval", {"sums": evaluation(1)}, protocol(4))
    b = write_run(folder / "b", "step-40", {"sums": evaluation(2, 0.25)}, protocol(4), stores=False)
    return a, b


def told(capsys, *words) -> dict:
    assert main(["compare", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_difference_is_that_of_the_means_by_problem(pair, capsys):
    (found,) = told(capsys, *pair)["differences"]
    a, b = rewards(1).mean(axis=1), rewards(2, 0.25).mean(axis=1)
    assert (found["before"], found["after"]) == pytest.approx((a.mean(), b.mean()))
    assert found["change"] == pytest.approx((b - a).mean())
    error = (b - a).std(ddof=1) / math.sqrt(PROBLEMS)
    assert found["low"] == pytest.approx(found["change"] - 1.96 * error, abs=0.15 * error)
    assert found["high"] == pytest.approx(found["change"] + 1.96 * error, abs=0.15 * error)
    assert found["p"] < 0.001
    assert found["pairs"] == PROBLEMS
    assert found["verdict"].startswith("B above A: +")


def test_two_calls_print_the_same_and_the_table_says_how_both_were_answered(pair, capsys):
    printed = []
    for _ in range(2):
        assert main(["compare", *map(str, pair)]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert f"A: {pair[0]}, eval" in printed[0]
    assert f"B: {pair[1]}, step-40" in printed[0]
    assert printed[0].count("n 4, T 0.6, top-p 0.95, top-k off, at most 64 tokens") == 2
    assert "B above A: +" in printed[0]
    assert "p < 0.001" in printed[0]


def test_a_run_a_set_a_folder_of_sets_and_a_file_are_the_same_evaluation(pair, capsys):
    a, b = pair
    places = (a, *(a / "evaluations" / n for n in ("eval", "eval/sums", "eval.sums.jsonl")))
    assert len({str(told(capsys, place, b)["differences"]) for place in places}) == 1


def test_greedy_answers_that_are_right_or_wrong_get_mcnemar_s_test(folder, capsys):
    asked = protocol(0, greedy=True)
    sides = []
    for name, right in (("g1", "1100000001"), ("g2", "0111110001")):
        answers = [answered(f"q{i}", (), float(c)) for i, c in enumerate(right)]
        sides.append(write_run(folder / name, "eval", {"s": answers}, asked))
    (found,) = told(capsys, *sides)["differences"]
    assert found["measure"] == "greedy"
    # Gained 2, 3, 4, 5 and lost 0: of five coins at most one on a side, 12 of 32.
    assert found["discordant"] == {"gained": 4, "lost": 1, "p": 12 / 32}
    assert found["p"] == 12 / 32
    assert "no difference shown: +30.0 points" in found["verdict"]


def test_rewards_between_right_and_wrong_get_the_sign_flip_test(folder, capsys):
    asked = protocol(0, greedy=True)
    sides = []
    for name, values in (("h1", (0.0, 0.5, 1.0)), ("h2", (0.5, 1.0, 1.0))):
        answers = [answered(f"q{i}", (), value) for i, value in enumerate(values)]
        sides.append(write_run(folder / name, "eval", {"s": answers}, asked))
    (found,) = told(capsys, *sides)["differences"]
    assert found["discordant"] is None
    assert found["p"] == 0.5  # two differences, both up: 2 of 4 signs are as far


def test_samples_and_greedy_answers_are_tested_both_and_told_as_many(folder, capsys):
    asked = protocol(4, greedy=True)
    a = write_run(folder / "s1", "eval", {"sums": evaluation(3, greedy=True)}, asked)
    b = write_run(folder / "s2", "eval", {"sums": evaluation(4, 0.3, greedy=True)}, asked)
    found = told(capsys, a, b)["differences"]
    assert [one["measure"] for one in found] == ["mean", "greedy"]
    assert all(one["adjusted_p"] >= one["p"] for one in found)
    assert main(["compare", str(a), str(b)]) == 0
    out = capsys.readouterr().out
    assert "p among" in out
    assert "sums greedy:" in out


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("right", lambda r: r.mean()),
        ("pass@4", lambda r: r.max(axis=1).mean()),
        ("length", lambda r: 2.5),
        ("halved", lambda r: r.mean()),
        ("think", lambda r: 0.0),
    ],
)
def test_other_measures_are_compared_by_problem_too(pair, capsys, measure, value):
    (found,) = told(capsys, *pair, "--measure", measure)["differences"]
    assert found["before"] == pytest.approx(value(rewards(1)))
    assert found["unit"] == ("tokens" if measure == "length" else "points")


def test_problems_of_one_side_alone_are_counted_and_said(folder, pair, capsys):
    few = write_run(folder / "few", "eval", {"sums": evaluation(5)[10:]}, protocol(4))
    answer = told(capsys, pair[0], few)
    (found,) = answer["differences"]
    assert (found["pairs"], found["only_before"], found["only_after"]) == (30, 10, 0)
    assert "sums: left out are problems of one side alone, A 10, B 0" in answer["notes"]


def test_pairs_are_by_the_question_whatever_the_set_is_called(folder, pair, capsys):
    """With and without guide tokens: the same questions under two names, in another order."""
    other = evaluation(2, 0.25, "no_guide")[::-1]
    b = write_run(folder / "guide", "eval", {"no_guide": other}, protocol(4))
    (found,) = told(capsys, pair[0], b)["differences"]
    assert found["name"] == "sums / no_guide"
    assert found["after"] == pytest.approx(rewards(2, 0.25).mean())
    assert found["relative"] == pytest.approx(found["change"] / found["before"])


def test_equal_questions_of_a_set_are_told_apart_by_their_order(folder, capsys):
    twice = [answered("q", (1.0, 1.0)), answered("q", (0.0, 0.0))]
    a, b = (write_run(folder / n, "eval", {"s": twice}, protocol(2)) for n in ("t1", "t2"))
    (found,) = told(capsys, a, b)["differences"]
    assert (found["pairs"], found["change"], found["p"]) == (2, 0.0, 1.0)


def test_sides_that_were_answered_otherwise_are_told_so(folder, pair, capsys):
    b = write_run(folder / "n2", "eval", {"sums": evaluation(6)}, protocol(4, threshold=0.5))
    (note,) = told(capsys, pair[0], b)["notes"]
    assert note.startswith("sums: not all were answered alike: n 4, T 0.6")
    assert "right from 0.5" in note
    assert told(capsys, *pair)["notes"] == []
    cut = [answered(f"problem {i}", row[:2]) for i, row in enumerate(rewards(6))]
    c = write_run(folder / "n3", "eval", {"sums": cut}, protocol(2))
    assert [n for n in told(capsys, pair[0], c)["notes"] if "not all were answered alike" in n]


# --- over seeds


@pytest.fixture(scope="module")
def seeds(folder):
    sides = []
    for side, gain in (("x", 0.0), ("y", 0.2)):
        runs = []
        for seed in range(3):
            run = folder / f"{side}{seed}"
            for step, more in ((0, 0.9), (10, 0.1 * (seed == 0)), (20, 0.0)):
                answers = evaluation(100 * seed + step, gain + more)
                write_run(run, f"step-{step}", {"sums": answers}, protocol(4), stores=False)
            runs.append(run)
        sides.append(runs)
    return sides


def test_over_seeds_each_run_s_best_after_its_start_is_averaged(seeds, capsys):
    found = told(capsys, "--a", *seeds[0], "--b", *seeds[1])["seeds"]
    for side, gain in (("a", 0.0), ("b", 0.2)):
        best = [
            max(
                rewards(100 * s + 10, gain + 0.1 * (s == 0)).mean(),
                rewards(100 * s + 20, gain).mean(),
            )
            for s in range(3)
        ]
        mean, error = found["maxima"][0][side]
        assert mean == pytest.approx(np.mean(best))
        assert error == pytest.approx(np.std(best, ddof=1) / math.sqrt(3))


def test_over_seeds_the_interquartile_mean_is_of_the_last_evaluations(seeds, capsys):
    answer = told(capsys, "--a", *seeds[0], "--b", *seeds[1])
    found = answer["seeds"]
    last = [[rewards(100 * s + 20, gain).mean() for s in range(3)] for gain in (0.0, 0.2)]
    assert (found["iqm_a"], found["iqm_b"]) == pytest.approx(tuple(map(np.mean, last)))
    assert found["low"] < found["change"] < found["high"]
    assert found["low"] >= min(last[1]) - max(last[0]) - 1e-12
    assert [note for note in answer["notes"] if note.startswith("warning: 3 and 3 runs; below 5")]
    (difference,) = answer["differences"]
    assert difference["before"] == pytest.approx(np.mean(last[0]))


def test_five_seeds_of_each_are_enough(folder, pair, capsys):
    answer = told(capsys, "--a", *[pair[0]] * 5, "--b", *[pair[1]] * 5)
    assert not [note for note in answer["notes"] if "warning" in note]
    assert answer["seeds"]["high"] == pytest.approx(answer["seeds"]["change"])  # all alike


# --- before a run


def test_the_smallest_difference_is_told_before_a_run(capsys):
    assert main(["compare", "--problems", "200", "--samples", "8"]) == 0
    out = capsys.readouterr().out
    assert f"differences of {100 * smallest_difference(200, 8, EVEN):.1f} points or more" in out
    assert "200 problems x 8 answers of each model" in out


def test_an_evaluation_tells_how_its_rewards_spread(pair, capsys):
    assert main(["compare", str(pair[0]), "--problems", "200", "--samples", "8"]) == 0
    known = capsys.readouterr().out
    assert "sums: differences of" in known
    assert main(["compare", "--problems", "200", "--samples", "8", "--correlation", "1"]) == 0
    assert capsys.readouterr().out != known


# --- what cannot be


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "0 places; name two, A and B"),
        (["A"], "1 places; name two"),
        (["A", "nowhere"], "nowhere holds no evaluation"),
        (["A", "B", "--label", "step-7"], "has no such evaluation, only eval"),
        (["A", "B", "--set", "other"], "--set other: not a set that both sides have"),
        (["A", "B", "--measure", "fame"], "--measure fame: must be one of mean, maj"),
        (["A", "B", "--draws", "0"], "draws are at least 1"),
        (["A", "--a", "A", "--b", "B"], "--a and --b go together"),
        (["--a", "A"], "--a and --b go together"),
        (
            ["A", "strange"],
            "nothing in common: of set sums / s A has mean of 40 problems and B of 2",
        ),
        (["A", "greedy"], "one side has samples and the other only greedy answers"),
        (["A", "two"], "nothing in common: A has the sets sums, B u, v"),
        (["--problems", "0"], "--problems 0"),
        (["A", "B", "--problems", "9"], "name A alone, or none"),
    ],
)
def test_what_cannot_be_compared_is_refused(folder, pair, capsys, monkeypatch, words, said):
    asked = protocol(2)
    if not (folder / "strange").exists():
        alien = [answered("x", (1.0, 1.0)), answered("y", (0.0, 0.0))]
        write_run(folder / "strange", "eval", {"s": alien}, asked)
        write_run(folder / "two", "eval", {"u": alien, "v": alien}, asked)
        alone = [answered(f"problem {i}", (), 1.0) for i in range(3)]
        write_run(folder / "greedy", "eval", {"sums": alone}, protocol(0, greedy=True))
    monkeypatch.chdir(folder)
    places = {"A": "a", "B": "b"}
    assert main(["compare", *(places.get(word, word) for word in words)]) == 2
    assert said in capsys.readouterr().err
