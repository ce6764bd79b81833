"""The names of vLLM that this project calls, with their parameters, recorded from its source.

    python -m tests.support.vllm_signatures 0.23.0 FOLDER

reads an unpacked vLLM (the folder that holds `vllm/`) without importing it and writes what it finds
into `vllm_signatures.json` beside it: per name the parameter list, defaults as `...`, annotations
left out; null where that version lacks the name. `signatures` reads the record, or an installed
vLLM.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import sys
from pathlib import Path

RECORD = Path(__file__).with_suffix(".json")
NAMES = (
    "v1/engine/async_llm:AsyncLLM.from_engine_args",
    "v1/engine/async_llm:AsyncLLM.generate",
    "v1/engine/async_llm:AsyncLLM.abort",
    "v1/engine/async_llm:AsyncLLM.pause_generation",
    "v1/engine/async_llm:AsyncLLM.resume_generation",
    "v1/engine/async_llm:AsyncLLM.collective_rpc",
    "v1/engine/async_llm:AsyncLLM.start_weight_update",
    "v1/engine/async_llm:AsyncLLM.update_weights",
    "v1/engine/async_llm:AsyncLLM.finish_weight_update",
    "v1/engine/async_llm:AsyncLLM.update_weight_version",
    "v1/engine/async_llm:AsyncLLM.shutdown",
    "v1/engine/async_llm:AsyncLLM.errored",
    "v1/worker/gpu_worker:Worker.start_weight_update",
    "v1/worker/gpu_worker:Worker.update_weights",
    "v1/worker/gpu_worker:Worker.finish_weight_update",
    "engine/arg_utils:EngineArgs",
    "sampling_params:SamplingParams",
    "outputs:CompletionOutput",
    "config/weight_transfer:WeightTransferConfig",
    "distributed/weight_transfer/factory:WeightTransferEngineFactory.register_engine",
    "distributed/weight_transfer/base:WeightTransferInitInfo",
    "distributed/weight_transfer/base:WeightTransferUpdateInfo",
    "distributed/weight_transfer/base:WeightTransferUpdateRequest",
    "distributed/weight_transfer/base:WeightTransferEngine.__init__",
    "distributed/weight_transfer/base:WeightTransferEngine.parse_update_info",
    "distributed/weight_transfer/base:WeightTransferEngine.init_transfer_engine",
    "distributed/weight_transfer/base:WeightTransferEngine.start_weight_update",
    "distributed/weight_transfer/base:WeightTransferEngine.receive_weights",
    "distributed/weight_transfer/base:WeightTransferEngine.finish_weight_update",
    "distributed/weight_transfer/base:WeightTransferEngine.shutdown",
    "distributed/weight_transfer/base:WeightTransferEngine.trainer_send_weights",
    "model_executor/model_loader/reload/layerwise:initialize_layerwise_reload",
    "model_executor/model_loader/reload/layerwise:finalize_layerwise_reload",
)
"""Module path within vLLM, then a function, a method, or a class that is called by its fields."""


def signatures(version: str = "") -> dict[str, inspect.Signature | None]:
    """Per name its signature, None where that version lacks it.

    Args:
        version: A recorded one; empty reads the installed vLLM.
    """
    table = json.loads(RECORD.read_text())[version] if version else read(installed())
    return {name: None if text is None else _signature(text) for name, text in table.items()}


def installed() -> Path:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.parent


def read(folder: Path) -> dict[str, str | None]:
    """The parameter list of each name in an unpacked vLLM."""
    return {name: _find(folder / "vllm", name) for name in NAMES}


def _find(root: Path, name: str) -> str | None:
    module, _, path = name.partition(":")
    file = root / f"{module}.py"
    node: ast.AST | None = ast.parse(file.read_text()) if file.exists() else None
    for part in path.split("."):
        node = next(
            (
                child
                for child in getattr(node, "body", [])
                if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and child.name == part
            ),
            None,
        )
    if node is None:
        return None
    return _fields(node) if isinstance(node, ast.ClassDef) else _parameters(node)


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    bare = ast.parse(ast.unparse(function).replace("async def", "def", 1)).body[0]
    assert isinstance(bare, ast.FunctionDef)
    arguments = bare.args
    for one in (
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        *filter(None, (arguments.vararg, arguments.kwarg)),
    ):
        one.annotation = None
    dots = ast.Constant(...)
    arguments.defaults = [dots for _ in arguments.defaults]
    arguments.kw_defaults = [None if one is None else dots for one in arguments.kw_defaults]
    return ast.unparse(arguments)


def _fields(record: ast.ClassDef) -> str:
    """A class called by its fields: dataclass, pydantic or msgspec."""
    fields, keyword_only = [], False
    for node in record.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(node.annotation):
            continue
        if ast.unparse(node.annotation) == "KW_ONLY":
            keyword_only = True
            continue
        fields.append(node.target.id + ("" if node.value is None else "=..."))
    return ", ".join(["self", *(["*"] if keyword_only and fields else []), *fields])


def _signature(text: str) -> inspect.Signature:
    scope: dict[str, object] = {}
    exec(f"def recorded({text}): ...", scope)
    return inspect.signature(scope["recorded"])  # type: ignore[arg-type]


def main() -> None:
    version, folder = sys.argv[1], Path(sys.argv[2])
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[version] = read(folder)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
