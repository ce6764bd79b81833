"""Files of torch and DeepSpeed, read without running code.

DeepSpeed asks torch to run whatever its files name. While `without_code` lasts, torch refuses to,
for DeepSpeed too, but for the classes that DeepSpeed's files hold beside tensors.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from oapl.errors import CheckpointError, first_line

FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""What torch obeys whatever its caller asks for."""
CLASSES = {
    "deepspeed.runtime.fp16.loss_scaler": ("LossScaler", "DynamicLossScaler"),
    "deepspeed.runtime.zero.config": ("ZeroStageEnum",),
    "deepspeed.utils.tensor_fragment": ("fragment_address",),
    "numpy": ("ndarray", "dtype"),
    "numpy._core.multiarray": ("_reconstruct",),
    "numpy.dtypes": ("UInt32DType",),
}
"""Of DeepSpeed's files; and of NumPy what random states of earlier builds are."""


@contextlib.contextmanager
def without_code(path: Path) -> Iterator[None]:
    """Have torch load nothing but tensors, plain values and `CLASSES` while the block runs.

    Args:
        path: What is read, for errors.

    Raises:
        CheckpointError: A file names something else.
    """
    before = os.environ.get(FORCED)
    os.environ[FORCED] = "1"
    try:
        with torch.serialization.safe_globals([*_classes()]):
            yield
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = named[1] if named else first_line(error)
        raise CheckpointError(
            f"checkpoint {path}: a file names {what}, which is neither a tensor nor known; it is "
            "not loaded, because it could run code"
        ) from error
    finally:
        os.environ.pop(FORCED)
        if before is not None:
            os.environ[FORCED] = before


def load(path: Path) -> Any:
    """Read what `torch.save` wrote, onto the CPU.

    Args:
        path: The file.

    Raises:
        CheckpointError: See `without_code`.
    """
    with without_code(path):
        return torch.load(path, map_location="cpu", weights_only=True)


def _classes() -> Iterator[Any]:
    for module, names in CLASSES.items():
        found = sys.modules.get(module)  # whoever reads DeepSpeed's files has imported it
        yield from (getattr(found, name) for name in names if hasattr(found, name))
