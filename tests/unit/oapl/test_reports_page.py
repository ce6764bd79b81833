"""The page: self-contained, the same for the same runs, and safe against what it shows."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from deploy.commands._compare import sides as sides_of
from deploy.commands._compare.outcome import compared
from oapl import reports
from oapl.reports._drawing import ink
from oapl.reports._drawing.panels import Curves, Line
from oapl.reports._drawing.pictures import save, svg
from oapl.reports._page.page import tint
from oapl.reports._page.verdict import verdict
from oapl.reports._study import tested
from tests.support import run_folders

ATTACK = (
    "</pre></script><script>document.title='x'</script><img src=x onerror=alert(1)> $x_1$ & \x00"
)
FIGURES = ["learning", "lag", "events", "balance", "results", "cases", "rollouts", "setup"]


class Tags(HTMLParser):
    """Names and attributes of all elements."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """Of two runs whose every text is an attack."""
    top = tmp_path_factory.mktemp("page")
    folders = [
        run_folders.make(top / "one<b>", steps=30, text=ATTACK),
        run_folders.make(top / "two", steps=30, objective="grpo", text=ATTACK),
    ]
    return written(folders, top / "report.html")


def written(folders, path) -> str:
    study = reports.Study.read(folders)
    reports.write(study, reports.draw(study, FIGURES), path)
    return path.read_text()


def test_what_models_and_settings_say_is_shown_as_text(page):
    tags = Tags()
    tags.feed(page)
    names = [name for name, _ in tags.found]
    assert names.count("script") == 1
    assert "img" not in names
    assert "b" not in {name for name in names if name == "one"}
    assert not any(key.startswith("on") for _, attributes in tags.found for key in attributes)
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert page.count("document.title=") == page.count("document.title=&#39;") > 0


def test_the_page_asks_nobody_for_anything(page):
    tags = Tags()
    tags.feed(page)
    links = [
        value
        for _, attributes in tags.found
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "action")
    ]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "url(http" not in page
    assert "default-src 'none'" in page


def test_every_reference_within_a_picture_leads_to_one_place(page):
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    wanted = set(re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', page))
    assert {one or other for one, other in wanted} <= set(ids)


def test_pictures_have_the_pages_colours_alone(page):
    pictures = re.findall(r"<svg .*?</svg>", page, re.DOTALL)
    assert len(pictures) > 6
    for picture in pictures:
        assert set(re.findall(r"#[0-9a-f]{6}\b", picture)) <= {"#ffffff", "#000000"}
        assert "var(--" in picture
    assert page.count("--s0:") == 3  # light, dark by the system, dark by the button


def test_the_same_runs_give_the_same_page(tmp_path):
    folder = run_folders.make(tmp_path / "a", steps=10)
    first = written([folder], tmp_path / "1.html")
    assert first == written([folder], tmp_path / "2.html")


def test_colours_stand_out_from_light_and_dark_paper():
    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for one, least in ((ink.LIGHT, 3.0), (ink.DARK, 3.0)):
        for colour in (*one.series, one.faint, one.text, one.good, one.bad):
            low, high = sorted((luminance(colour), luminance(one.paper)))
            assert (high + 0.05) / (low + 0.05) >= least, colour


@pytest.mark.parametrize(
    ("nats", "expected"),
    [(0.0, ""), (0.09, ""), (0.1, "u1"), (-0.5, "d3"), (7.0, "u5"), (-7.0, "d5")],
)
def test_a_token_is_tinted_by_how_far_it_has_moved(nats, expected):
    assert tint(nats) == expected


def test_the_verdict_says_what_rose_by_how_much_and_at_what_cost(tmp_path):
    study = reports.Study.read([run_folders.make(tmp_path / "a", seed=3)])
    (line,) = verdict(study)
    assert re.fullmatch(
        r"mean@8 on 2 evaluation sets rose: 0\.2\d+ to 0\.8\d+ \(\+5\d\.\d ± 2\.0 points; paired "
        r"by problem sums \+\d\d\.\d points, 95 % interval .* to .*, p < 0\.001; products .*\) "
        r"over 60 learner steps and 3,888 rollouts in 2 min 9 s; 1 fault\.",
        line,
    ), line


def of_one_set(folder: Path) -> Path:
    """The run as if the other set had not been there."""
    file = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if not k.startswith("eval/products")} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return folder


def test_on_one_set_the_verdict_is_that_of_the_paired_test(tmp_path):
    risen = of_one_set(run_folders.make(tmp_path / "a", seed=3))
    (line,) = verdict(reports.Study.read([risen]))
    assert re.match(
        r"mean@8 on sums rose: 0\.\d+ to 0\.\d+ \(\+\d+\.\d points, 95 % interval \d+\.\d to "
        r"\d+\.\d, p < 0\.001\) over 60 learner steps",
        line,
    ), line
    still = of_one_set(run_folders.make(tmp_path / "b", seed=3, level=0.25))
    (line,) = verdict(reports.Study.read([still]))
    assert "on sums did not move beyond chance: " in line
    (still / "evaluations" / "step-0.sums.jsonl").unlink()
    (line,) = verdict(reports.Study.read([still]))
    assert re.search(r" points\) over 60", line), "without answers by the errors of both"


@pytest.mark.parametrize("measure", ["mean", "greedy"])
def test_the_reports_test_is_that_of_compare(tmp_path, measure):
    folder = run_folders.make(tmp_path / "a", seed=3)
    sides = [sides_of.read(folder, label) for label in ("step-0", "step-60")]
    asked = sides_of.Asked(measures=(measure,))
    theirs = {one.name: one for one in compared([sides[0]], [sides[1]], asked).differences}
    (run,) = reports.Study.read([folder]).runs
    before, after = tested.Side(runs=[run], is_last=False), tested.Side(runs=[run])
    name = "mean@n" if measure == "mean" else measure
    found = tested.tests(before, after, name, ["sums", "products", "no such set"])
    assert {one.name for one in found} == {*theirs} == {"sums", "products"}
    for one in found:
        assert one == theirs[one.name]


def test_over_seeds_a_problems_number_is_the_mean_of_all_runs(tmp_path):
    runs = reports.Study.read([run_folders.make(tmp_path / n, seed=i) for i, n in enumerate("ab")])
    sides = [tested.Side(runs=[run], is_last=False) for run in runs.runs]
    both = tested.Side(runs=runs.runs, is_last=False)
    (whole,) = tested.tests(both, tested.Side(runs=runs.runs), "mean@n", ["sums"])
    alone = [tested.tests(one, one, "mean@n", ["sums"])[0].before for one in sides]
    assert whole.before == pytest.approx(sum(alone) / 2)


def test_the_verdict_of_several_series_says_which_ends_highest_and_how_surely(tmp_path):
    study = reports.Study.read(
        [
            run_folders.make(tmp_path / "a", level=0.9),
            run_folders.make(tmp_path / "b", level=0.5, objective="grpo"),
        ]
    )
    first, *rest = verdict(study)
    assert first.startswith("Of 2 series oapl ends highest, at 0.")
    assert ", before grpo: +" in first
    assert first.endswith("this is more than chance.")
    assert len(rest) == 2


def test_a_run_that_failed_is_told(tmp_path):
    folder = run_folders.make(tmp_path / "a", steps=5)
    (folder / "status.json").write_text(
        '{"phase": "failed", "since_unix_s": 1, "began_unix_s": 1, "start_step": 0, "pid": 1, '
        '"host": "h"}'
    )
    assert verdict(reports.Study.read([folder]))[-1] == "a has failed at step 5."


def test_every_picture_and_table_is_also_a_png(tmp_path):
    study = reports.Study.read([run_folders.make(tmp_path / "a", steps=5)])
    drawn = reports.draw(study, ["lag", "results", "rollouts"])
    made = reports.write_png(drawn, tmp_path / "png")
    assert sorted(path.name for path in made) == ["lag.png", "results.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)


def test_words_in_a_picture_keep_all_their_digits():
    line = Line(label="", place=0, x=np.arange(3), y=np.array([0.001, 0.002, 0.003]))
    picture = svg(Curves(title="t", x="x", lines=(line,)), "p")
    assert ">0.0015<" in picture
    assert max(len(digits) for digits in re.findall(r'd="[^"]*?\.(\d+)', picture)) <= 2


def test_a_run_that_was_only_evaluated_says_so(tmp_path):
    folder = run_folders.make(tmp_path / "a", steps=3)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text(lines[0])
    (line,) = verdict(reports.Study.read([folder]))
    assert re.fullmatch(
        r"mean@8 on sums, products is 0\.\d{3} ± 0\.014; nothing was trained\.", line
    ), line


def drawn_on_axes(panel):
    axes = Figure().subplots()
    panel.draw(axes, ink.LIGHT)
    return axes


def test_names_of_points_stand_on_either_side_of_lines_also_where_these_cross():
    x = np.array([1.0, 2.0, 3.0])
    first, second = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.4, 0.8])
    lines = tuple(
        Line(label="", place=place, x=x, y=y, names=("16", "32", "48"))
        for place, y in enumerate((first, second))
    )
    axes = drawn_on_axes(Curves(title="", x="rollouts", lines=lines))
    above = [text.get_verticalalignment() == "bottom" for text in axes.texts]
    assert above == [False, True, True, True, False, False]


def test_a_line_of_zeros_is_above_its_axis_and_a_wide_pictures_axis_is_named_at_its_left():
    zeros = Line(label="", place=0, x=np.arange(3.0), y=np.zeros(3))
    flat = drawn_on_axes(Curves(title="", x="learner step", lines=(zeros,), is_percent=True))
    assert flat.get_ylim()[0] < 0
    wide = drawn_on_axes(Curves(title="", x="minutes", lines=(zeros,), size="wide"))
    assert (flat.xaxis.label.get_ha(), wide.xaxis.label.get_ha()) == ("center", "left")


def test_the_same_panels_are_saved_as_svg_and_as_png_by_the_ending_of_the_path(tmp_path):
    line = Line(label="a", place=0, x=np.ones(1), y=np.ones(1))
    panels = [Curves(title="t", x="x", lines=(line,))]
    for name in ("a.svg", "b.svg", "c.png"):
        save(panels, tmp_path / name, "Title")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "Title" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
