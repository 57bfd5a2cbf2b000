"""A sample of samples: some of each class, drawn by a seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossxai.files.records import Samples

Rows = npt.NDArray[np.intp]


def drawn(samples: Samples, most: int, seed: int, among: Rows | None = None) -> Rows:
    """The places of so many samples at most, in order, among all or these: classes take turns, so that rare ones are there."""
    n = len(samples.ids)
    order = np.random.default_rng(seed).permutation(n)
    if among is not None:
        order = order[np.isin(order, among)]
    labels = np.zeros(n) if samples.task == "regression" else np.asarray(samples.labels)
    turns = np.empty(n, np.intp)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        turns[own] = np.arange(len(own))
    return np.sort(order[np.argsort(turns[order], kind="stable")][:most])
