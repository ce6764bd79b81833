"""What lies beside a model's weights and belongs to it: tokenizer, code, templates, licence.

Files are copied and not loaded and saved: loading a tokenizer may replace its pre-tokenizer, and
saving one leaves out the code that it came with.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

WEIGHTS = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".hdf5", ".msgpack", ".ot", ".pb"),
    *(".onnx", ".onnx_data", ".gguf", ".ggml", ".npy", ".npz", ".tflite", ".mlmodel", ".engine"),
    *(".llamafile", ".pkl", ".pickle", ".distcp", ".tar", ".parquet", ".arrow"),
)
"""Endings of weights in any format, of what trainers keep beside them, and of data."""
LARGEST_BYTES = 128 * 2**20
"""Four times the largest tokenizer seen."""
OF_OTHER_WEIGHTS = ("adapter_", "adapter.", "quantize_config", "trainer_state", "training_args")
"""Beginnings of the names of files that tell how other weights are to be read."""


def copy_companions(source: Path, target: Path) -> None:
    """Copy what belongs to a model and is not there yet; what is there is newer.

    Args:
        source: The folder of the model that was trained; subfolders of code and templates too.
        target: The folder of the model that came of it.
    """
    for path in _companions(source, target):
        copy = target / path.relative_to(source)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _companions(source: Path, target: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(source):
        here = Path(folder)
        names[:] = [name for name in names if _belongs(here / name, target)]
        for name in sorted(files):
            path = here / name
            if path.is_file() and not _is_of_weights(path):
                yield path


def _belongs(folder: Path, target: Path) -> bool:
    """No hidden folder, no other model, environment or run that lies in the model's folder."""
    signs = ("config.json", "config.toml", "pyvenv.cfg")
    is_other = any((folder / name).exists() for name in signs)
    is_passing = folder.name.startswith(".") or folder.name == "__pycache__"
    return not (is_other or is_passing or target.resolve().is_relative_to(folder.resolve()))


def _is_of_weights(path: Path) -> bool:
    name = path.name.lower()
    return (
        name.startswith((".", *OF_OTHER_WEIGHTS))
        or name.endswith(".index.json")
        or path.suffix.lower() in WEIGHTS
        or path.stat().st_size > LARGEST_BYTES
    )
