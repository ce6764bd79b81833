"""The report's page in a real browser: no errors, nothing beside the screen, light and dark.

Its pictures lie in `OAPL_PICTURES`, where that names a folder: look at them.
"""

import os
import time
from pathlib import Path

import pytest

from oapl import reports
from tests.support import browser, run_folders

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        browser.program() is None,
        reason="no Chromium on this machine (apt-get install chromium)",
    ),
]
WIDTHS = (400, 1000, 1600)
LARGEST_BYTES, LONGEST_S = 2e6, 10.0
ATTACK = "<script>document.title='x'</script><img src=x onerror=\"document.title='x'\">"
TOO_WIDE = """
[...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  const scrolled = e.closest('.picture, .scroll, pre');
  return !scrolled && box.width > 0 && box.right > document.documentElement.clientWidth + 1;
}).map(e => e.tagName + '.' + e.className).slice(0, 5)
"""
SORTED = """
(() => {
  const table = document.querySelector('#results table');
  table.querySelectorAll('th button')[0].click();
  const place = [...table.tHead.rows[0].cells].findIndex(c => c.innerText.startsWith('gain'));
  table.tHead.rows[0].cells[place].querySelector('button').click();
  return [...table.tBodies[0].rows].map(row => row.cells[place].dataset.key);
})()
"""
OVERLAPS = """
[...document.querySelectorAll('svg')].flatMap(svg => {
  const boxes = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())
    .map(t => [t.textContent.trim(), t.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([two, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4
  ).map(([two, b]) => svg.parentElement.getAttribute('aria-label') + ': ' + one + ' | ' + two));
})
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Of two series, one of two seeds, of a thousand learner steps."""
    top = tmp_path_factory.mktemp("page")
    ratios = {f"policy/ratio_at/{number}": 1 + number / 100 for number in range(10)}
    study = reports.Study.read(
        [
            run_folders.make(top / "oapl-0", steps=1000, extra=ratios, text=ATTACK),
            run_folders.make(top / "oapl-1", steps=1000, extra=ratios, seed=1),
            run_folders.make(top / "grpo", steps=1000, objective="grpo", level=0.7),
        ]
    )
    reports.write(study, reports.draw(study), top / "report.html")
    return top / "report.html"


@pytest.fixture(scope="module")
def tab():
    with browser.tab() as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_fails_and_nothing_lies_beside_the_screen(page, tab, width, scheme):
    tab.open(page, width, scheme)
    if folder := os.environ.get("OAPL_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        tab.picture(Path(folder) / f"{width}-{scheme}.png")
    assert tab.errors == []
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value(TOO_WIDE) == []
    assert tab.value("document.title").endswith("oapl report")
    assert tab.value(OVERLAPS) == []


def test_what_models_wrote_runs_nowhere(page, tab):
    tab.open(page, 1000, "light")
    assert tab.value("document.images.length") == 0
    assert tab.value("document.scripts.length") == 1
    assert tab.value("document.title").startswith("oapl, ")


def test_a_click_on_a_heading_sorts_its_table(page, tab):
    tab.open(page, 1000, "light")
    keys = [float(key) for key in tab.value(SORTED) if key != "-inf"]
    assert keys == sorted(keys, reverse=True)
    assert len(keys) == 2


def test_the_button_turns_light_into_dark(page, tab):
    tab.open(page, 1000, "light")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = tab.value(paper)
    tab.value("document.getElementById('theme').click()")
    dark = tab.value(paper)
    tab.resize(1000, "dark")
    tab.value("document.getElementById('theme').click()")
    assert (light, tab.value(paper)) == ("rgb(255, 255, 255)", light)
    assert dark == "rgb(15, 20, 25)"


def test_a_thousand_steps_make_a_small_page_soon(tmp_path):
    folder = run_folders.make(tmp_path / "a", steps=1000)
    began = time.process_time()
    study = reports.Study.read([folder])
    reports.write(study, reports.draw(study), tmp_path / "report.html")
    assert time.process_time() - began < LONGEST_S
    assert (tmp_path / "report.html").stat().st_size < LARGEST_BYTES
