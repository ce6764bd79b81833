"""What a step reports: per-token and per-rollout numbers, reduced once over all ranks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from oapl.counters import Moments
from oapl.records import Means, Metrics


class Measures:
    """Collects a step's numbers on the device; see `LossOutputs.metrics` for what names mean."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._totals: dict[str, list[Tensor]] = {}
        self._means: dict[tuple[str, ...], list[Tensor]] = {}

    def add(self, metrics: Mapping[str, Tensor | Means]) -> None:
        """Take numbers of one micro-batch, [N] or [B] by name, of which moments are reported."""
        for name, values in metrics.items():
            if isinstance(values, Means):
                pairs = torch.stack([values.totals, values.counts], 1)  # [K, 2]
                self._means.setdefault(values.names, []).append(pairs.detach().float())
                continue
            self._values.setdefault(name, []).append(values.detach().float())

    def add_to_total(self, name: str, value: Tensor) -> None:
        """Take a scalar, [], whose sum over all micro-batches and ranks is reported.

        Args:
            name: A metric's.
            value: This micro-batch's share.
        """
        self._totals.setdefault(name, []).append(value.detach().float())

    def reduced(self) -> Metrics:
        """Reduce over all ranks; called by all, and a rank may have no names.

        Returns:
            Totals and means under their names, moments under those that `oapl.counters.Moments`
            gives; the same on each rank.
        """
        moments = {name: Moments() for name in self._values}
        for name, values in self._values.items():
            moments[name].add(torch.cat(values).cpu().numpy())
        for names, pairs in self._means.items():
            sums = torch.stack(pairs).sum(0).tolist()
            for name, (total, count) in zip(names, sums, strict=True):
                moments[name] = Moments(round(count), total / max(count, 1.0))
        totals = {name: float(torch.stack(values).sum()) for name, values in self._totals.items()}
        everyone: list[tuple[dict[str, Moments], Metrics]] = [(moments, totals)]
        if (world_size := torch.distributed.get_world_size()) > 1:
            everyone *= world_size
            torch.distributed.all_gather_object(everyone, (moments, totals))
        report: Metrics = {}
        for _, theirs in everyone:
            for name, value in theirs.items():
                report[name] = report.get(name, 0.0) + value
        for name in dict.fromkeys(name for parts, _ in everyone for name in parts):
            whole = Moments()
            for parts, _ in everyone:
                whole.merge(parts.get(name, Moments()))
            report |= whole.report(name)
        return report
