"""What is measured of a model and is no weighted sum of its outputs: Dice, the class predicted at each step, accuracy.

Each stands where a `Target` does, and metrics that only score take all of them. Explainers that need gradients take what has
one, and those that rebuild the network as a library's module take targets alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, Self, get_args

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput, Unsupported
from crossxai.model import Array
from crossxai.outputs import seen
from crossxai.target import apply_link, class_numbers, fits, pull_back_link, regions_of

Probability = Literal["identity", "softmax", "sigmoid"]
Rows = npt.NDArray[np.intp]


class Measure(Protocol):
    """What is measured of the outputs: one score per sample, and its slope; a `Target` is one."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def link(self) -> str:
        """What is measured, for the params of scores."""
        ...

    @property
    def weights(self) -> npt.NDArray[Any]:
        """Those of a `Target`; `Unsupported` for what has none."""
        ...

    @property
    def out(self) -> tuple[int, ...]:
        """Shape of the outputs of one sample."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Rows | slice) -> Measure: ...

    def score(self, outputs: Array, rows: Rows) -> Array:
        """Scores (m,) of outputs (m, *out), where outputs[j] belongs to sample rows[j]."""
        ...

    def cotangent(self, outputs: Array, rows: Rows) -> Array:
        """d(score)/d(outputs), shape (m, *out)."""
        ...


THRESHOLDS = {"probabilities": 0.5, "log_probabilities": float(np.log(0.5))}
"""Above which the one class of a segmentation is predicted, by what the outputs are; 0 for logits."""


def predicted_region(outputs: Array, label: npt.ArrayLike, kind: str | None = None) -> npt.NDArray[np.bool_]:
    """Where a class, one for all samples or for each, is predicted (n, *space), of outputs (n, *space, classes): the largest, or,
    of one class, above the threshold of what the outputs are: kind, as of `crossxai.outputs`.

    Not given, outputs outside of [0, 1] are logits. Raises `InvalidInput` where that decides and cannot be told.
    """
    if outputs.shape[-1] == 1:
        measured = seen(outputs) if kind is None else None
        kind = measured.kind if measured is not None else kind
        if kind is None or kind == "unknown":
            raise InvalidInput(
                "all outputs lie in [0, 1], so that it cannot be told whether they are logits, which are an answer above 0, or "
                'probabilities, which are one above 1/2: write kind="logits" or "probabilities"'
            )
        return np.asarray(outputs[..., 0] > THRESHOLDS.get(kind, 0.0))
    labels = np.asarray(label).reshape(-1, *[1] * (outputs.ndim - 2))
    return np.asarray(outputs.argmax(axis=-1) == labels)


class Unweighted:
    """What is no weighted sum of outputs, by default (n, n_classes), and has no gradient."""

    n_classes: int
    described: ClassVar[str]
    no_gradient: ClassVar[str]

    @property
    def weights(self) -> npt.NDArray[Any]:
        """None: raises `Unsupported`."""
        raise Unsupported(f"{self.described} is no weighted sum of outputs, which is needed here: ask about a Target")

    @property
    def out(self) -> tuple[int, ...]:
        """Shape of the outputs of one sample."""
        return (self.n_classes,)

    def cotangent(self, outputs: Array, rows: Rows) -> Array:
        """None: raises `Unsupported`."""
        raise Unsupported(self.no_gradient)


@dataclass(frozen=True)
class Dice(Unweighted):
    """Dice coefficient of a class's predicted region with each sample's reference mask, in [0, 1]; for segmentation.

    Soft, with p the class's map of probabilities and m the mask: 2 Σ p m / (Σ p + Σ m), which has a gradient.

    Parameters
    ----------
    masks : (n, *space) booleans, or 0 and 1, the reference mask of each sample, none empty
    label : int, the class, in 0 … n_classes - 1
    n_classes : int, the length of the outputs' last axis
    probability : {"softmax", "sigmoid", "identity"}
        How outputs become probabilities; "identity" for a model that gives probabilities.
    hard : bool
        p is 1 where the class is the largest of all, or, for probability="sigmoid" and for one class, above 1/2, and 0 elsewhere;
        without a gradient.

    References
    ----------
    Dice 1945 (hard); Milletari et al. 2016, V-Net (soft), with sums of p instead of p² as in Drozdzal et al. 2016.
    """

    masks: npt.ArrayLike
    label: int
    n_classes: int
    probability: Probability = "softmax"
    hard: bool = False

    described: ClassVar[str] = "a Dice coefficient"
    no_gradient: ClassVar[str] = "a hard Dice coefficient moves in jumps and has no gradient: write hard=False"

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "masks", regions_of(self.masks, self.label, self.n_classes, "there is nothing to overlap with")
        )
        _check_link(self.probability, self.n_classes)

    @property
    def link(self) -> str:
        """What is measured."""
        return f"{'hard' if self.hard else 'soft'} dice of {self.probability}"

    @property
    def out(self) -> tuple[int, ...]:
        """Shape of the outputs of one sample."""
        return (*np.asarray(self.masks).shape[1:], self.n_classes)

    def __len__(self) -> int:
        return len(np.asarray(self.masks))

    def __getitem__(self, rows: Rows | slice) -> Self:
        return replace(self, masks=np.asarray(self.masks)[rows])

    def score(self, outputs: Array, rows: Rows) -> Array:
        """Coefficients (m,) of outputs (m, *space, n_classes), where outputs[j] belongs to sample rows[j]."""
        p, m = self._regions(outputs, rows)
        return np.asarray(2 * (p * m).sum(axis=1) / (p.sum(axis=1) + m.sum(axis=1)))

    def cotangent(self, outputs: Array, rows: Rows) -> Array:
        """d(score)/d(outputs), shape (m, *space, n_classes)."""
        if self.hard:
            raise Unsupported(self.no_gradient)
        p, m = self._regions(outputs, rows)
        sizes = (p.sum(axis=1) + m.sum(axis=1))[:, None]
        slope = np.zeros_like(outputs)
        by_p = 2 * m / sizes - 2 * (p * m).sum(axis=1, keepdims=True) / sizes**2
        slope[..., self.label] = by_p.reshape(outputs.shape[:-1])
        return pull_back_link(outputs, self.probability, slope)

    def _regions(self, outputs: Array, rows: Rows) -> tuple[Array, Array]:
        """The predicted region and the mask of each output, (m, pixels)."""
        fits(outputs, self.out, rows)
        if self.probability == "identity":
            _check_probabilities(outputs, self.n_classes)
        if self.hard and self.probability != "sigmoid" and self.n_classes > 1:
            p = np.where(np.isnan(outputs).any(axis=-1), np.nan, outputs.argmax(axis=-1) == self.label)
        else:
            p = apply_link(outputs, self.probability)[..., self.label]
            p = np.where(np.isnan(p), p, p > 0.5) if self.hard else p
        m = np.asarray(self.masks)[rows]
        return tuple(v.reshape(len(rows), -1).astype(outputs.dtype) for v in (p, m))  # type: ignore[return-value]


@dataclass(frozen=True)
class Largest(Unweighted):
    """The largest probability of any class: the confidence in whatever is predicted at each step, for n samples.

    Without a gradient, since the class may change.

    Parameters
    ----------
    n : int, number of samples
    n_classes : int, the length of the outputs' last axis
    probability : {"softmax", "sigmoid", "identity"}, how outputs become probabilities; "identity" for the largest output
    """

    n: int
    n_classes: int
    probability: Probability = "softmax"

    described: ClassVar[str] = "the largest of all classes"
    no_gradient: ClassVar[str] = (
        "the largest of all classes is another class from one step to the next, and is measured, not explained: "
        "explain Target.classes(predicted, n_classes)"
    )

    def __post_init__(self) -> None:
        _check_link(self.probability, self.n_classes)

    @property
    def link(self) -> str:
        """What is measured."""
        return f"largest {self.probability}"

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: Rows | slice) -> Self:
        return replace(self, n=len(np.arange(self.n)[rows]))

    def score(self, outputs: Array, rows: Rows) -> Array:
        """Scores (m,) of outputs (m, n_classes)."""
        fits(outputs, self.out, rows)
        return np.asarray(apply_link(outputs, self.probability).max(axis=-1))


@dataclass(frozen=True)
class Accuracy(Unweighted):
    """1 where the largest output is that of the sample's own class, else 0; without a gradient.

    Of tied outputs the first counts, as in NumPy's argmax; an output of NaN gives NaN.

    Parameters
    ----------
    labels : (n,) whole numbers, the classes, in 0 … n_classes - 1
    n_classes : int, the length of the outputs' last axis, at least 2
    """

    labels: npt.ArrayLike
    n_classes: int

    link: ClassVar[str] = "accuracy"
    described: ClassVar[str] = "an accuracy"
    no_gradient: ClassVar[str] = (
        "accuracy moves in jumps and has no gradient: it is measured, not explained; explain "
        "Target.classes(labels, n_classes)"
    )

    def __post_init__(self) -> None:
        if self.n_classes < 2:
            raise InvalidInput("one output is always the largest: accuracy needs at least two classes")
        object.__setattr__(self, "labels", class_numbers(self.labels, self.n_classes))

    def __len__(self) -> int:
        return len(np.asarray(self.labels))

    def __getitem__(self, rows: Rows | slice) -> Self:
        return replace(self, labels=np.asarray(self.labels)[rows])

    def score(self, outputs: Array, rows: Rows) -> Array:
        """1 or 0 (m,) for outputs (m, n_classes), where outputs[j] belongs to sample rows[j]."""
        fits(outputs, self.out, rows)
        right = outputs.argmax(axis=-1) == np.asarray(self.labels)[rows]
        return np.where(np.isnan(outputs).any(axis=-1), np.nan, right).astype(outputs.dtype)


def _check_link(link: str, n_classes: int) -> None:
    if link not in get_args(Probability):
        raise InvalidInput(f"unknown probability {link!r}: write one of {', '.join(get_args(Probability))}")
    if link == "softmax" and n_classes == 1:
        raise InvalidInput(
            'softmax over one output is always 1: write probability="sigmoid" for logits, "identity" for probabilities'
        )


def _check_probabilities(outputs: Array, n_classes: int) -> None:
    low, high = float(np.nanmin(outputs)), float(np.nanmax(outputs))
    if low < -1e-6 or high > 1 + 1e-6:
        write = "sigmoid" if n_classes == 1 else "softmax"
        raise InvalidInput(
            f'a Dice coefficient of probability="identity" takes probabilities; the outputs go from {low:.3g} to {high:.3g}: '
            f'write probability="{write}"'
        )
