"""Why an engine cannot be built or loaded: the model, for ever, or the moment."""

import pytest

from actors.engines import base
from oapl.config import RunConfig
from oapl.errors import EngineError, InputError, WeightsError

CONFIG = RunConfig(model={"path": "some/model"})
UNKNOWN = ValueError(
    "1 validation error for ModelConfig\n  Value error, Model architectures ['XForCausalLM'] are "
    "not supported for now.\n    For further information visit a page"
)


def failed_build(cause: Exception | None) -> EngineError:
    error = EngineError("the inference engine could not be built")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "cause", [UNKNOWN, NotImplementedError("no such layer"), KeyError("rope"), TypeError("bits")]
)
def test_a_model_that_the_engine_does_not_know_is_the_users_affair(cause):
    found = base.first_build_failed(CONFIG, failed_build(cause))
    assert isinstance(found, InputError)
    text = str(found)
    assert text.startswith("model.path = 'some/model': ")
    assert type(cause).__name__ in text
    assert "\n" not in text
    assert "XForCausalLM" in text or cause is not UNKNOWN


@pytest.mark.parametrize(
    "cause",
    [
        RuntimeError("the device is busy"),
        OSError("too many open files"),
        ValueError("Free memory on device cuda:0 is less than desired"),
        EngineError("another engine lives in this process"),
        None,
    ],
)
def test_what_may_be_better_the_next_time_stays_an_engines_fault(cause):
    error = failed_build(cause)
    assert base.first_build_failed(CONFIG, error) is error


@pytest.mark.parametrize(
    ("error", "is_first", "kind"),
    [
        (ValueError("There is no module or parameter named 'layers.0.mlp'"), True, InputError),
        (KeyError("layers.0.mlp"), True, InputError),
        (ValueError("There is no module or parameter named 'layers.0.mlp'"), False, WeightsError),
        (WeightsError("3 tensors are missing"), True, WeightsError),
        (RuntimeError("out of memory"), True, WeightsError),
    ],
)
def test_names_that_the_engine_never_takes_in_end_the_run(error, is_first, kind):
    found = base.load_failed(2, 0, error, is_first=is_first)
    assert type(found) is kind
    assert str(error) in str(found)
    assert "engine 2" in str(found)


def test_a_long_text_is_cut_and_told_on_one_line():
    text = base.reason_of(ValueError("first\n\n  second \n" + "x" * 10_000))
    assert text.startswith("first; second; xxx")
    assert len(text) < base.LONGEST_REASON + 10
