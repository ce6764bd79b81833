"""The accelerators, and whether the recipe asks for one that is not here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deploy.doctor.finding import Finding
from oapl.config import RunConfig

AREA = "devices"


def look(found: Mapping[str, list[str]], config: RunConfig | None) -> Iterator[Finding]:
    """Hold what there is against the recipe.

    Args:
        found: Kind to its cards, as `hardware.accelerators` gives them.
        config: The recipe, if there is one.
    """
    for kind, cards in found.items():
        yield Finding(area=AREA, name=kind, found=f"{len(cards)}: {'; '.join(cards)}")
    if not found:
        yield Finding(area=AREA, name="accelerator", found="none: runs use the CPU")
    wanted = config.cluster.device if config else "cpu"
    if wanted in ("cuda", "npu") and wanted not in found and not (config and _joins(config)):
        yield Finding(
            area=AREA,
            name=wanted,
            found=f'the recipe asks for cluster.device = "{wanted}", and torch sees none',
            level="wrong",
            remedy="install the driver and torch's build for it, run on a machine that has one "
            '(cluster.address), or set cluster.device = "cpu"',
        )


def _joins(config: RunConfig) -> bool:
    """Whether the run's devices are a cluster's, which need not be this machine's."""
    return bool(config.ray_address)
