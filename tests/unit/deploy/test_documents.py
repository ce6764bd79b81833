"""`docs/` says what the code says."""

import pytest

from deploy.documents import FOLDER, documents
from oapl.config.listing import settings
from oapl.reports.base import FIGURES
from oapl.tracking.names import METRICS

MADE = documents()


@pytest.mark.parametrize("name", MADE)
def test_a_document_is_current(name):
    assert (FOLDER / name).read_text() == MADE[name], "run `make docs`"


def test_nothing_is_left_out():
    for text, names in (
        (MADE["settings.md"], [setting.key for setting in settings()]),
        (MADE["metrics.md"], list(METRICS)),
        (MADE["figures.md"], FIGURES.names()),
    ):
        assert [name for name in names if f"`{name}`" not in text] == []


def test_a_table_has_as_many_cells_in_each_row():
    for text in MADE.values():
        for table in text.split("\n\n"):
            rows = [line for line in table.splitlines() if line.startswith("|")]
            assert len({line.replace("\\|", "").count("|") for line in rows}) <= 1
