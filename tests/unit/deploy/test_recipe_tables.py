"""The tables of recipes in docs/papers: every value and remark is one of the recipe's."""

import pytest

from deploy.documents import FOLDER, PAPERS
from deploy.recipe_tables import filled, read
from tests.support.paper_recipes import PUBLISHED

ONE = """
run.name = "one"
sync.interval = 50   # reading: a period
data.sources = [{ set = "gsm8k", verifiers = { math = 1.0 } }]

[optimizer]
lr = 1e-6            # as printed
"""
TWO = """
extends = "one.toml"
sync.interval = 2
optimizer.lr = 1e-6  # as printed

[[stages]]
name = "first"
run.max_steps = 7    # reading: seven | eight
"""
PAGE = "# T\n\n<!-- recipes: one two -->\nold\n<!-- end -->\n\nwords\n"
MADE = """# T

<!-- recipes: one two -->

| setting | `one` | `two` | remark in the recipe |
|---|---|---|---|
| `sync.interval` | `50` | `2` | `one`: reading: a period |
| `data.sources` | `[{ set = "gsm8k", verifiers = { math = 1.0 } }]` |  |  |
| `optimizer.lr` | `1e-06` | `1e-06` | as printed |
| `extends` |  | `"one.toml"` |  |

`two`, stage by stage:

| stage | what it says | the recipe's remarks |
|---|---|---|
| 1 first | `run.max_steps = 7` | run.max_steps: reading: seven \\| eight |

<!-- end -->

words
"""


@pytest.fixture
def folder(tmp_path):
    for name, text in (("one", ONE), ("two", TWO)):
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def test_recipes_stand_side_by_side_with_what_they_remark(folder):
    assert filled(PAGE, folder) == MADE
    assert filled(MADE, folder) == MADE


def test_a_page_that_names_a_recipe_that_is_not_there_is_refused(folder):
    with pytest.raises(FileNotFoundError, match=r"three\.toml"):
        filled(PAGE.replace("one two", "three"), folder)


def test_what_a_stage_remarks_is_not_the_recipes(folder):
    assert read(folder / "two.toml").remarks[1, "run.max_steps"] == "reading: seven | eight"
    assert (0, "run.max_steps") not in read(folder / "two.toml").remarks


def test_every_published_recipe_stands_on_a_page():
    text = "\n".join(path.read_text() for path in (FOLDER / PAPERS).glob("*.md"))
    assert [name for name in PUBLISHED if f"`{name}`" not in text] == []
