"""One type of model: what the learner says to it, and what vLLM computes of it."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from oapl.errors import InputError, first_line
from tests.models import tiny

PACKED, ALONE, REFUSED, UNCHECKED = "packed", "row_tokens = 1", "refused", "not checked"
WHERE = re.compile(r"^(model\.path|model\.attn_implementation) = '[^']*': ")
FIGURES = re.compile(r"[^ ]+ nats per token \(largest [^)]+\)")


@dataclass(frozen=True, slots=True)
class Row:
    """Of the table."""

    model_type: str
    verdict: str
    why: str = ""
    engine: str = ""

    def with_engine(self, word: str) -> Row:
        return replace(self, engine=word)

    def line(self) -> str:
        """In Markdown: of a leak the figures, of a refusal what comes before the remedy."""
        figures = FIGURES.search(self.why) if self.verdict.startswith(ALONE) else None
        why = (figures[0] if figures else self.why.split("; ")[0]).replace("|", "/")
        return f"| {self.model_type} | {self.verdict} | {why} | {self.engine} |"


def all_types() -> list[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def learner_row(model_type: str) -> Row:
    """Make one, and start a rank's policy with it in one way after the other, the usual first."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = tiny.make(model_type, Path(folder))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the row's reason
            return Row(model_type, UNCHECKED, _short(error))
        why = ""
        for attention in ("sdpa", "eager"):
            for row_tokens in (0, 1):
                try:
                    _start(path, attention, row_tokens)
                except InputError as error:
                    why = why if "packed row apart" in why else WHERE.sub("", str(error))
                    continue
                except RuntimeError as error:
                    return Row(model_type, UNCHECKED, _short(error))
                place = f" ({attention})" if attention != "sdpa" else ""
                verdict = ALONE if row_tokens else PACKED
                return Row(model_type, verdict + place, why if row_tokens else "")
        return Row(model_type, REFUSED, why)


def engine_word(model_type: str) -> str:
    """The largest difference between engine and transformers, or why there is none."""
    from actors.engines import vllm_inprocess
    from tests.support.makers import make_tokenizer
    from tests.support.serving import EngineUnderTest

    with tempfile.TemporaryDirectory() as folder:
        path, tokenizer = tiny.make(model_type, Path(folder)), make_tokenizer(tiny.VOCABULARY)
        tokenizer.save_pretrained(path)
        try:
            # Of Qwen2's type transformers would load another tokenizer than was saved.
            with patch.object(vllm_inprocess, "load_tokenizer", lambda *_: tokenizer):
                served = EngineUnderTest(path, max_num_seqs=8)
            largest = 0.0
            for _ in range(2):
                served.train()
                largest = max(largest, asyncio.run(served.publish()).max_difference)
            served.close()
        except Exception as error:  # noqa: BLE001 - the engine's reason, whatever it is
            return _short(error)
        return f"{largest:.0e}"


def unanswered(call: Callable[[str], Any], model_type: str, why: str) -> Any:
    """What stands for the answer of a process that died or hung."""
    return Row(model_type, UNCHECKED, why) if call is learner_row else why


def _start(path: Path, attention: str, row_tokens: int) -> None:
    import torch

    from learner import trial
    from learner.models.policy import load_policy
    from oapl.config import RunConfig

    config = RunConfig(
        model={"path": str(path), "attn_implementation": attention},
        learner={"precision": "fp32", "row_tokens": row_tokens},
    )
    trial.check(config, load_policy(config), torch.device("cpu"))


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)[:120]}"
