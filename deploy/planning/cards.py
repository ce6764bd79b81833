"""What cards can do at most, where nobody measured a run on them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from oapl.devices._peaks import peak_of
from oapl.errors import InputError

USUAL = {"cuda": "H100", "npu": "Ascend 910C", "cpu": "CPU"}
"""The card that is meant where only the kind is said."""
BANDWIDTHS = {
    r"B200": 8.0e12,
    r"H200": 4.8e12,
    r"H20\b": 4.0e12,
    r"H100.*PCIe": 2.0e12,
    r"H100|H800": 3.35e12,
    r"A100|A800": 2.04e12,
    r"L40S": 0.864e12,
    r"A10G?\b": 0.6e12,
    r"V100": 0.9e12,
    r"RTX 4090": 1.01e12,
    r"910": 1.6e12,
    r"CPU": 0.02e12,
}
"""Bytes per second of a card's memory, by a pattern of its name; Ascend's of one of the two devices
of a 910C; a CPU's is that of one core that is busy.

Source: the makers' data sheets, that of the 910C as the press has it.
"""
OTHERS = {r"910": 376e12, r"CPU": 0.05e12}
"""Operations per second of what `oapl.devices` does not list; of one device, or core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One device: its name, operations per second in 16 bits, bytes per second of its memory."""

    name: str
    peak: float
    bandwidth: float


def card(name: str, device: str, peak_tflops: float = 0.0) -> Card:
    """Look a card up.

    Args:
        name: Of the card; empty: the usual one of its kind.
        device: A file of oapl/devices.
        peak_tflops: What the recipe says of it; 0: nothing.

    Raises:
        InputError: It is in no table.
    """
    name = name or USUAL.get(device, USUAL["cuda"])
    peak = peak_tflops * 1e12 or peak_of(name) or _found(OTHERS, name)
    bandwidth = _found(BANDWIDTHS, name)
    if not peak or not bandwidth:
        raise InputError(
            f"--card {name}: is not known; known are H100, H200, H20, A100, A800, L40S, B200, "
            "Ascend 910C and the like; name the nearest one, and give what is measured by --rate"
        )
    return Card(name=name, peak=peak, bandwidth=bandwidth)


def _found(table: dict[str, float], name: str) -> float:
    return next((value for form, value in table.items() if re.search(form, name)), 0.0)
