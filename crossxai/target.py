"""Target: which scalar of a model's output is explained or measured, one per sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from crossxai.equality import equal
from crossxai.errors import InvalidInput
from crossxai.links import Link, linked, through, weighed
from crossxai.masks import boolean
from crossxai.model import Array


@dataclass(frozen=True)
class Target:
    """score_i = sum(link(f(x_i)) · weights_i): a class, a regression output or a segmented region are one case.

    What is no such sum, a Dice coefficient or an accuracy, is in `measures`.

    weights: (n, *out), class axis last. link: "identity" explains the raw output (logit), "softmax" the probability
    over the last axis, "sigmoid" the probability of each output alone; "log_odds", of a model that gives probabilities,
    log(p / (1 - p)), which is the logit before a sigmoid, and before a softmax how far the logit is above all others together.
    """

    weights: npt.NDArray[Any]
    link: Link = "identity"

    def __post_init__(self) -> None:
        if self.link not in get_args(Link):
            raise InvalidInput(f"unknown link {self.link!r}: write one of {', '.join(get_args(Link))}")
        if self.weights.ndim < 2:
            raise InvalidInput(f"target weights need shape (n, *out), got {self.weights.shape}")
        if self.link == "softmax" and self.weights.shape[-1] == 1:
            raise InvalidInput(
                'softmax over one output is always 1: write link="sigmoid" (measure = "sigmoid")'
                ', or "identity" for a model that gives probabilities'
            )

    @classmethod
    def classes(cls, labels: npt.ArrayLike, n_classes: int, link: Link = "identity") -> Target:
        """The output of class labels[i] for sample i; labels (n,) are integers in 0 … n_classes - 1."""
        index = np.asarray(labels)
        if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
            raise InvalidInput(f"labels must be integers of shape (n,), got {index.dtype} of shape {index.shape}")
        if index.size and (index.min() < 0 or index.max() >= n_classes):
            raise InvalidInput(
                f"labels must lie in 0 … {n_classes - 1} for {n_classes} classes, got {index.min()} … {index.max()}"
            )
        # One byte per class: a target of thousands of classes is as long as its samples' outputs.
        weights = np.zeros((len(index), n_classes), np.int8)
        weights[np.arange(len(index)), index] = 1
        return cls(weights, link)

    @classmethod
    def outputs(cls, index: int, n: int, n_outputs: int, link: Link = "identity") -> Target:
        """Output number `index` (a regression value, say) for each of n samples."""
        return cls.classes(np.full(n, index, dtype=np.int64), n_outputs, link)

    @classmethod
    def regions(cls, masks: npt.ArrayLike, label: int, n_classes: int, link: Link = "identity") -> Target:
        """Mean output of class `label` over each sample's region; masks (n, *space) of booleans, or of 0 and 1."""
        inside = boolean(masks)
        if not 0 <= label < n_classes:
            raise InvalidInput(f"label must lie in 0 … {n_classes - 1}, got {label}")
        sizes = inside.reshape(len(inside), -1).sum(axis=1)
        if (sizes == 0).any():
            raise InvalidInput(
                f"the masks of samples {np.flatnonzero(sizes == 0).tolist()} are empty: nothing to explain"
            )
        weights = np.zeros((*inside.shape, n_classes))
        weights[..., label] = inside / sizes.reshape(-1, *([1] * (inside.ndim - 1)))
        return cls(weights, link)

    @property
    def out(self) -> tuple[int, ...]:
        """Shape of the outputs of one sample."""
        return self.weights.shape[1:]

    def __eq__(self, other: object) -> bool:
        return equal(self, other)

    def __hash__(self) -> int:
        return hash((self.weights.shape, self.link))

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, rows: npt.NDArray[np.intp] | slice) -> Target:
        return replace(self, weights=self.weights[rows])

    def score(self, outputs: Array, rows: npt.NDArray[np.intp]) -> Array:
        """Scores (m,) of outputs (m, *out), where outputs[j] belongs to sample rows[j]."""
        weights = self._weights_for(outputs, rows)
        values = weighed(linked(outputs, self.link), weights, self.link)
        return np.asarray(values.reshape(len(outputs), -1).sum(axis=1))

    def cotangent(self, outputs: Array, rows: npt.NDArray[np.intp]) -> Array:
        """d(score)/d(outputs), shape (m, *out)."""
        return through(outputs, self.link, self._weights_for(outputs, rows))

    def _weights_for(self, outputs: Array, rows: npt.NDArray[np.intp]) -> Array:
        fits(outputs, self.out, rows)
        return self.weights[rows].astype(outputs.dtype, copy=False)


def fits(outputs: Array, out: tuple[int, ...], rows: npt.NDArray[np.intp]) -> None:
    """Raise `InvalidInput` unless outputs are of shape (len(rows), *out)."""
    if outputs.shape[1:] != out:
        raise InvalidInput(f"the target speaks of outputs of shape {out}, the model gives {outputs.shape[1:]}")
    if len(outputs) != len(rows):
        raise InvalidInput(
            f"the model gives {len(outputs)} outputs for {len(rows)} samples: it must keep the sample axis"
        )
