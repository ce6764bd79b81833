"""What a recipe names stays in the run's folder: names that lead out of it are refused."""

import pytest

from deploy.checks import settings
from oapl.config import RunConfig
from oapl.errors import InputError

OUT = ("../other", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "-rf", "a\0b", "x" * 300, "~root")


@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize("key", ["run.name", "data.sources.0.name", "eval.sources.0.name"])
def test_a_name_that_leads_out_of_the_run_folder_is_refused(key, name):
    section, _, rest = key.partition(".")
    own = {"name": name} if rest == "name" else {"sources": [{"name": name, "path": "p.jsonl"}]}
    with pytest.raises(InputError) as error:
        settings.check(RunConfig(**{section: own}))
    assert any(line.startswith(f"{key} = ") for line in str(error.value).splitlines())


@pytest.mark.parametrize("name", ["run", "3", "a.b-c_d", "x" * 200])
def test_a_folder_s_name_is_none(name):
    with pytest.raises(InputError) as error:
        settings.check(RunConfig(run={"name": name}))
    assert "run.name" not in str(error.value), "the model alone is missing"
