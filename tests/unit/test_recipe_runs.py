"""`make recipes`: what its command line asks for."""

import pytest

from tests.recipes.__main__ import asked_for
from tests.support.toy_recipes import TOYS


def test_no_name_asks_for_every_twin():
    assert asked_for([]) == TOYS


def test_twins_are_asked_for_by_name_and_no_other(capsys):
    assert asked_for(["pcl_toy"]) == ["pcl_toy"]
    with pytest.raises(SystemExit):
        asked_for(["pcl_toy", "pcl"])
    assert "there is no twin pcl; there are " in capsys.readouterr().err
