"""When and where evaluations are made, in words; and an endpoint that answers elsewhere."""

import json

import pytest

from deploy.checks.evaluation import evaluating, how_evaluated
from deploy.checks.preflight import preflight
from deploy.checks.settings import check
from oapl.config import RunConfig
from oapl.errors import InputError
from tests.support.makers import make_model

SET = {"name": "s", "path": "x.jsonl"}


@pytest.mark.parametrize(
    ("section", "engines", "says"),
    [
        (
            {"every_syncs": 2},
            1,
            "every 2 synchronisations, in the synchronisation, on the engine: the learner waits "
            "for them",
        ),
        (
            {"every_steps": 100},
            2,
            "every 100 steps, in the synchronisation, on all 2 engines: the learner waits for them",
        ),
        (
            {"every_steps": 7, "engines": 1},
            2,
            "every 7 steps, beside training, on 1 of 2 engines",
        ),
        (
            {"every_syncs": 3, "slots": 0.25},
            2,
            "every 3 synchronisations, beside training, in 25% of what is in flight on all 2 "
            "engines",
        ),
        (
            {"every_syncs": 1, "engines": 2},
            6,
            "every synchronisation, beside training, on 2 of 6 engines",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_it_is_said_when_and_where_evaluations_are_made(section, engines, says):
    config = RunConfig(
        model={"path": "m"},
        data={"sources": [SET]},
        rollout={"num_engines": engines},
        eval={**section, "sources": [SET]},
    )
    check(config)
    assert how_evaluated(config) == says


def test_all_engines_evaluate_beside_where_nothing_is_sampled():
    config = RunConfig(
        model={"path": "m"},
        rollout={"num_engines": 2},
        replay={"source": "stored", "path": "groups"},
        eval={"every_steps": 3, "engines": 2, "sources": [SET]},
    )
    check(config)
    assert config.num_collecting == 0


def endpoint_run(folder):
    rows = [json.dumps({"prompt": f"{n}+1=", "answer": str(n + 1)}) for n in range(4)]
    (folder / "sums.jsonl").write_text("\n".join(rows) + "\n")
    return RunConfig(
        run={"dir": str(folder / "runs")},
        model={"path": str(folder / "model")},
        rollout={"max_tokens": 8},
        cluster={"mode": "local", "device": "cuda"},
        sync={"transport": "local"},
        eval={
            "sources": [{"name": "s", "path": str(folder / "sums.jsonl")}],
            "endpoint": {"base_url": "http://127.0.0.1:9/v1", "model": "m"},
        },
    )


def test_an_endpoint_needs_the_model_s_tokenizer_and_no_weights(tmp_path):
    make_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    config = endpoint_run(tmp_path)
    report = preflight(evaluating(config), purpose="evaluate", is_dry=True)
    assert report.facts["eval s"] == "4 of 4 prompts, the longest has 4 tokens"
    with pytest.raises(InputError, match="for `oapl eval` alone"):
        preflight(config, purpose="train", is_dry=True)
