"""What W&B has written of a run offline, read back record by record."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any


def records(path: Path) -> list[Any]:
    """The records of a W&B file: 32 KiB blocks of (crc, length, type, part of a record)."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (1 << 15) - at % (1 << 15) < 7:
            at += (1 << 15) - at % (1 << 15)
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found
