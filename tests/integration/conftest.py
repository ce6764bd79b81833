"""Engines that a file's tests share."""

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A tied Llama of 0.5M parameters with a character tokenizer."""
    from tests.support.makers import make_model

    return make_model(tmp_path_factory.mktemp("tied"), tied=True)


@pytest.fixture(scope="module")
def vllm_inprocess_engine(tiny_model):
    """One in-process vLLM engine for a file's tests, fp32, weights by the local transport."""
    yield from _engine(tiny_model, "vllm_inprocess")


@pytest.fixture(scope="module")
def vllm_async_engine(tiny_model):
    """The same in a process of its own."""
    yield from _engine(tiny_model, "vllm_async")


def _engine(model, host):
    from tests.support.serving import EngineUnderTest

    engine = EngineUnderTest(model, host=host)
    yield engine
    engine.close()
