"""Accuracy of evaluation answers by their length."""

from __future__ import annotations

import itertools

import numpy as np

from oapl.reports._drawing.panels import BarGroup, Bars
from oapl.reports._scores import Column, columns
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing, Panels

DECLARES = About(
    title="Accuracy by response length",
    section="evaluation",
    place=40,
    reads="Bins hold about equally many answers of all that are compared; a bar is missing where "
    "a model has given no answer of that length. The second picture says how many it has given.",
    like="PCL Fig. 5",
)
NUM_BINS = 6


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    there = [(one, found) for one in columns(study) if len(found := samples(one))]
    if not there:
        return Absent("these runs have kept no answers of an evaluation (evaluations/)")
    edges = edges_of(np.concatenate([found[:, 0] for _, found in there]))
    names = tuple(
        f"{int(low)}–{int(high) - 1}" if high - low > 1 else f"{int(low)}"
        for low, high in itertools.pairwise(edges)
    )
    right, many = [], []
    for one, found in there:
        bins = np.digitize(found[:, 0], edges[1:-1])
        counts = np.bincount(bins, minlength=len(names))
        hits = np.bincount(bins, weights=found[:, 1], minlength=len(names))
        shares = np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)
        right.append(BarGroup(label=one.name, place=one.place, values=tuple(shares.tolist())))
        part = counts / counts.sum()
        many.append(BarGroup(label=one.name, place=one.place, values=tuple(part.tolist())))
    titles = {"accuracy (%)": right, "share of the answers (%)": many}
    return Panels(
        panels=tuple(
            Bars(
                title=title,
                x="response length (tokens)",
                categories=names,
                groups=tuple(groups),
                is_percent=True,
            )
            for title, groups in titles.items()
        )
    )


def samples(one: Column) -> np.ndarray:
    """Length and whether it is right of every judged answer, float64 [N, 2]."""
    found = []
    for run in one.runs:
        threshold = float(run.setting("eval.threshold", 1.0))
        for of in run.sets:
            kept = run.kept(of)
            if kept:
                answered = kept[-1 if one.is_last else 0]
                found += [(n, float(reward >= threshold)) for n, reward in answered.samples]
    return np.array(found, np.float64).reshape(-1, 2)


def edges_of(lengths: np.ndarray) -> np.ndarray:
    """Edges of bins with about equally many lengths, whole numbers that rise.

    Args:
        lengths: float64 [N].
    """
    cuts = np.quantile(lengths, np.linspace(0, 1, NUM_BINS + 1)[1:-1])
    inner = np.unique(np.ceil(cuts))
    low, high = lengths.min(), lengths.max() + 1
    return np.array([low, *inner[(inner > low) & (inner < high)], high])
