"""The tables of an evaluation, made again of what it has stored."""

import json

import numpy as np
import pandas
import pytest

from deploy.commands import main
from deploy.run import evaluation_report as report
from deploy.run import stored_answers, text_answers
from deploy.run.evaluation_files import SETTINGS, Made, newest
from oapl import groups_file
from oapl.errors import InputError
from oapl.evaluation import summarise
from tests.support.evaluated import HEADER, answered, protocol, write_run
from tests.support.storing import stored, write

ASKED = protocol(3, greedy=True, threshold=0.9, category="level", reflection_words=("wait",))
WEIGHTS = {"math": 0.9, "format": 0.1}


def answers(source: str = "sums"):
    told = [
        ("a", (1.0, 0.9, 0.1), 1.0),
        ("b", (0.0, None, 0.9), 0.0),
        ("c", (None, None, None), 0.9),
        ("d", (0.3, 0.3, 1.0), None),
    ]
    return [
        answered(
            question,
            rewards,
            greedy,
            source=source,
            lengths=(3, 40, 9),
            texts=("wait <think>x</think> 7", "7", "8"),
            reference={"answer": "7", "level": number % 2},
            verifiers=WEIGHTS,
        )
        for number, (question, rewards, greedy) in enumerate(told)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "r"
    sets = {"sums": answers(), "more": answers("more")[:2]}
    return write_run(folder, "eval", sets, ASKED)


def test_the_figures_are_those_of_the_evaluation_to_the_last_bit(run):
    expected = summarise("sums", answers(), ASKED) | summarise("more", answers("more")[:2], ASKED)
    found = report.figures(report.read(run / "evaluations" / "eval"))
    score = found.pop("eval/score")
    assert found == expected
    assert score == pytest.approx((found["eval/sums/mean@3"] + found["eval/more/mean@3"]) / 2)
    assert found["eval/sums/unjudged"] == 4
    assert found["eval/sums/pass@1"] != found["eval/sums/mean@3"]  # 0.9 counts, as it did then


def test_greedy_answers_lie_beside_the_samples_and_what_reads_the_set_sees_samples_alone(run):
    folder = run / "evaluations" / "eval" / "sums"
    assert [len(group.rollouts) for group in groups_file.read(folder)] == [3, 2, 3]
    assert len(pandas.read_parquet(folder)) == 8
    greedy = list(groups_file.read(folder / stored_answers.GREEDY))
    assert [group.prompt.question for group in greedy] == ["a", "b", "c"]
    assert {group.sampling.temperature for group in greedy} == {0.0}


def test_a_set_of_greedy_answers_alone_is_read_back_as_such(tmp_path):
    asked = protocol(0, greedy=True)
    alone = [answered("a", (), 1.0), answered("b", (), 0.0)]
    stored_answers.store(tmp_path / "s", HEADER, alone, Made.of("s", asked, alone))
    made, found = stored_answers.read(tmp_path / "s")
    assert made.protocol == asked
    assert summarise("s", found, asked) == summarise("s", alone, asked)
    assert not (tmp_path / "s" / stored_answers.GREEDY).exists()


def test_a_set_that_does_not_say_how_it_was_made_is_taken_for_samples(tmp_path):
    write(tmp_path / "old", [stored("x", (1.0, 0.0, 1.0)), stored("y", (0.0, 0.0, 0.0))])
    (one,) = report.read(tmp_path / "old")
    assert (one.made.name, one.made.protocol.num_samples) == ("old", 3)
    assert one.made.protocol.sampling.top_k == 40
    assert one.metrics["eval/old/mean@3"] == pytest.approx(1 / 3)


def test_answers_as_text_give_the_same_scores(run):
    made, found = text_answers.read(run / "evaluations" / "eval.sums.jsonl")
    assert made.protocol == ASKED
    figures, whole = summarise("sums", found, ASKED), summarise("sums", answers(), ASKED)
    same = ("mean@3", "mean@3_se", "pass@1", "maj@3", "greedy", "length_p90", "halved_right")
    for name in (*same, "think_rate", "reflection_rate", "truncated_rate", "unjudged"):
        assert figures[f"eval/sums/{name}"] == whole[f"eval/sums/{name}"], name


def test_the_newest_protocol_of_each_set_is_the_one_that_is_stated(run):
    assert newest(run / "evaluations") == {"sums": ASKED, "more": ASKED}
    assert newest(run / "nowhere") == {}


def test_the_command_prints_the_tables_with_the_protocol(run, capsys):
    assert main(["eval", "--from", str(run / "evaluations" / "eval")]) == 0
    out = capsys.readouterr().out
    assert "n 3, T 0.6, top-p 0.95, top-k off, at most 64 tokens, and greedy" in out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    mean = report.figures(report.read(run))["eval/sums/mean@3"]
    assert f"{mean:.3f}" in lines["mean@3"]
    assert "by category" in out
    assert "32 to 64" in out


def test_settings_given_with_it_measure_the_same_answers_otherwise(run, capsys):
    sources = ["eval.sources.0.name=sums", "eval.sources.0.path=x.jsonl"]
    (run / "config.toml").write_text("")
    words = [*sources, "eval.threshold=0.3", "eval.ks=[2]", "eval.reflection_words=['7']"]
    place = str(run / "evaluations" / "eval" / "sums")
    assert main(["eval", *words, "--from", place, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert found["eval/sums/reflection_rate"] == pytest.approx(np.mean([2 / 3, 1 / 2, 2 / 3]))
    assert "eval/sums/pass@1" not in found
    assert found["eval/sums/pass@2"] == pytest.approx(np.mean([1.0, 1.0, 1.0]))


def test_what_holds_no_answers_is_refused(tmp_path, capsys):
    with pytest.raises(InputError, match=r"holds no stored answers; name RUN/evaluations/eval"):
        report.read(tmp_path)
    assert main(["eval", "--from", str(tmp_path)]) == 2
    assert "holds no stored answers" in capsys.readouterr().err
    assert main(["eval", "--rejudge"]) == 2
    assert "name them by --from" in capsys.readouterr().err
    assert main(["eval"]) == 2
    assert "name a RECIPE" in capsys.readouterr().err


def test_a_damaged_file_of_how_it_was_made_is_named(run, tmp_path):
    broken = tmp_path / "r" / "evaluations"
    broken.mkdir(parents=True)
    for name in ("eval.sums.jsonl", "eval.sums.json"):
        (broken / name).write_bytes((run / "evaluations" / name).read_bytes()[:-30])
    with pytest.raises(InputError, match=r"eval\.sums\.jsonl holds no answers"):
        text_answers.read(broken / "eval.sums.jsonl")
    with pytest.raises(InputError, match=r"eval\.sums\.json does not say how"):
        newest(broken)


def test_answers_are_judged_again_and_written_as_sets_of_their_own(tmp_path, capsys):
    """What was called right is wrong now, and the other way round: 7 was asked for."""
    said = [answered("q", (0.0, 1.0), 1.0, texts=(r"\boxed{7}", r"\boxed{8}"))]
    run = write_run(tmp_path / "r", "eval", {"sums": said}, protocol(2, greedy=True))
    (run / "config.toml").write_text("reward.workers = 1\n")
    place, out = str(run / "evaluations" / "eval"), tmp_path / "again"
    assert main(["eval", "--from", place, "--rejudge", "--json", "--out", str(out)]) == 0
    judged = json.loads(capsys.readouterr().out)["metrics"]
    assert (judged["eval/sums/pass@1"], judged["eval/sums/greedy"]) == (0.5, 0.0)
    (group,) = groups_file.read(out / "sums")
    assert group.rewards.tolist() == [1.0, 0.0]
    assert main(["eval", "--from", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == judged
    assert main(["eval", "--from", place, "--rejudge", "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    words = ["reward.verifiers={stem=1}", "--rejudge"]
    assert main(["eval", *words, "--from", place]) == 2
    assert "judged by the verifier math, which the settings do not name" in capsys.readouterr().err


def test_answers_of_oapl_eval_are_judged_by_the_settings_that_it_had(tmp_path, capsys):
    said = [answered("q", (0.0,), texts=("<think>x</think> 7",), verifiers={"format": 1.0})]
    run = write_run(tmp_path / "r", "eval", {"sums": said}, protocol(1))
    words = ["eval", "--from", str(run), "--rejudge", "--json"]
    assert main(words) == 2
    assert "lies in no run folder" in capsys.readouterr().err
    (run / "config.toml").write_text("")  # of another day, by the verifier math
    (run / "evaluations" / SETTINGS).write_text(
        "[reward]\nworkers = 1\nverifiers = { format = 1.0 }\n"
        '[reward.options.format]\nrequire = "think"\n'
    )
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["eval/sums/pass@1"] == 1.0
