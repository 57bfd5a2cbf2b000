"""Target: which scalar of a model's output is explained or measured, one per sample; its links and its masks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from crossxai.errors import BrokenAssumption, InvalidInput
from crossxai.model import Array, equal
from crossxai.on_demand import OnDemand, blocks
from crossxai.outputs import sums_to_one

Link = Literal["identity", "softmax", "sigmoid", "log_odds"]
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Target:
    """score_i = sum(link(f(x_i)) · weights_i): a class, a regression output or a segmented region are one case.

    What is no such sum, a Dice coefficient or an accuracy, is in `measures`.

    Parameters
    ----------
    weights : array (n, *out), the weight of every output of every sample, class axis last
    link : {"identity", "softmax", "sigmoid", "log_odds"}
        "identity" explains the raw output (logit), "softmax" the probability over the last axis, "sigmoid" the probability of
        each output alone; "log_odds", of a model that gives probabilities, log(p / (1 - p)), which is the logit before a
        sigmoid, and before a softmax how far the logit is above all others together.

    Raises
    ------
    InvalidInput: if the weights have no class axis, or the link is unknown or a softmax over one output
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
        """The output of class labels[i] for sample i: a target with weights (n, n_classes).

        Parameters
        ----------
        labels : (n,) whole numbers in 0 … n_classes - 1
        n_classes : int, the length of the outputs' class axis
        link : str, as of `Target`
        """
        index = class_numbers(labels, n_classes)
        # One byte per class: a target of thousands of classes is as long as its samples' outputs.
        weights = np.zeros((len(index), n_classes), np.int8)
        weights[np.arange(len(index)), index] = 1
        return cls(weights, link)

    @classmethod
    def outputs(cls, index: int, n: int, n_outputs: int, link: Link = "identity") -> Target:
        """Output number `index` (a regression value, say) for each of n samples: a target with weights (n, n_outputs).

        Parameters
        ----------
        index : int in 0 … n_outputs - 1
        n : int, the number of samples
        n_outputs : int, the length of the outputs' last axis
        link : str, as of `Target`
        """
        return cls.classes(np.full(n, index, dtype=np.int64), n_outputs, link)

    @classmethod
    def regions(cls, masks: npt.ArrayLike, label: npt.ArrayLike, n_classes: int, link: Link = "identity") -> Target:
        """Mean output of class `label` over each sample's region: weights (n, *space, n_classes) that sum to 1 for each sample.

        Parameters
        ----------
        masks : (n, *space) booleans, or 0 and 1: the region of each sample, none empty
        label : int or (n,) whole numbers, the class of all samples or of each, in 0 … n_classes - 1
        n_classes : int, the length of the outputs' class axis
        link : str, as of `Target`
        """
        inside = regions_of(masks, label, n_classes, "nothing to explain")
        sizes = inside.reshape(len(inside), -1).sum(axis=1)
        weights = np.zeros((*inside.shape, n_classes))
        own = np.broadcast_to(np.asarray(label), len(inside))
        for row, (region, size) in enumerate(zip(inside, sizes, strict=True)):
            weights[row, ..., own[row]] = region / size
        return cls(weights, link)

    @property
    def out(self) -> tuple[int, ...]:
        """Shape of the outputs of one sample."""
        return self.weights.shape[1:]

    @staticmethod
    def known_there(target: object) -> bool:
        """Whether a device computes the scores: sums of outputs; but log-odds, in float64 after a look at all outputs, and other
        measures are computed on the host."""
        return type(target) is Target and target.link in ("identity", "softmax", "sigmoid")

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
        values = _weighed(apply_link(outputs, self.link), weights, self.link)
        return np.asarray(values.reshape(len(outputs), -1).sum(axis=1))

    def cotangent(self, outputs: Array, rows: npt.NDArray[np.intp]) -> Array:
        """d(score)/d(outputs), shape (m, *out)."""
        return pull_back_link(outputs, self.link, self._weights_for(outputs, rows))

    def _weights_for(self, outputs: Array, rows: npt.NDArray[np.intp]) -> Array:
        fits(outputs, self.out, rows)
        return self.weights[rows].astype(outputs.dtype, copy=False)


def fits(outputs: Array, out: tuple[int, ...], rows: npt.NDArray[np.intp]) -> None:
    """Raise `InvalidInput` unless outputs are of shape (len(rows), *out)."""
    require_out(tuple(outputs.shape[1:]), out)
    if len(outputs) != len(rows):
        raise InvalidInput(f"the model gives {len(outputs)} outputs for {len(rows)} samples: keep the sample axis")


def require_out(given: tuple[int, ...], out: tuple[int, ...]) -> None:
    """Raise `InvalidInput` unless the outputs of one sample, of shape `given`, are those that the target speaks of."""
    if given != out:
        raise InvalidInput(f"the target speaks of outputs of shape {out}, the model gives {given}")


def class_numbers(labels: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.integer[Any]]:
    """The labels, checked: whole numbers (n,) in 0 … n_classes - 1; else raises `InvalidInput`."""
    index = np.asarray(labels)
    if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise InvalidInput(f"labels must be integers of shape (n,), got {index.dtype} of shape {index.shape}")
    if index.size and (index.min() < 0 or index.max() >= n_classes):
        raise InvalidInput(
            f"labels of {n_classes} classes lie in 0 … {n_classes - 1}, got {index.min()} … {index.max()}"
        )
    return index


def regions_of(masks: npt.ArrayLike, label: npt.ArrayLike, n_classes: int, empty: str) -> Masks:
    """The masks (n, *space) of a class's regions, checked; empty: what an empty one means, in words."""
    inside = as_mask(masks)
    if inside.ndim < 2:
        raise InvalidInput(f"masks need shape (n, *space), got {inside.shape}")
    labels = np.asarray(label)
    if labels.shape not in ((), inside.shape[:1]) or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInput(f"label is a class, or one for each of the {len(inside)} samples, got {label!r}")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise InvalidInput(f"label must lie in 0 … {n_classes - 1}, got {labels}")
    without = np.flatnonzero(~inside.reshape(len(inside), -1).any(axis=1))
    if len(without):
        raise InvalidInput(f"the masks of samples {without.tolist()} are empty: {empty}")
    return inside


def as_mask(values: npt.ArrayLike, name: str = "masks") -> Masks:
    """A mask given as booleans, or as the numbers 0 and 1.

    Raises `InvalidInput`, which says what to write instead, for anything else: of a label map, a mask of 0 and 255, or a soft
    mask "non-zero" would silently take what was not meant.
    """
    if isinstance(values, OnDemand):  # its rows are checked when they are read
        whole: Any = values if values.dtype == bool else values.changed(lambda read, _: as_mask(read, name), bool)
        return whole  # type: ignore[no-any-return]
    given = np.asarray(values)
    if given.dtype == bool:
        return given
    if given.dtype.kind not in "uif":
        raise InvalidInput(f"{name} are booleans, or the numbers 0 and 1; got {given.dtype}")
    inside = given == 1
    if (inside | (given == 0)).all():
        return np.asarray(inside)
    others = np.unique(given[given != 0])
    shown = ", ".join(f"{v:g}" for v in others[:5]) + (" …" if len(others) > 5 else "")
    if not np.isfinite(given).all():
        reason = "none of them NaN or infinite: write False or True for each pixel"
    elif (others != np.round(others)).any():
        reason = f"these hold fractions ({shown}): write mask > 0.5"
    elif len(others) == 1:
        reason = f"these hold 0 and {shown}: write mask == {others[0]:g}"
    else:
        example = f"label_map == {others[0]:g}"
        reason = (
            f"these look like a label map ({shown}): write label_map == k, such as {example}, for the region of label k"
        )
    raise InvalidInput(f"{name} are booleans, or 0 and 1; {reason}")


class SampleMasks:
    """values (n, *space) in the question's order, or (*space) for all samples; booleans, or 0 and 1.

    ids: the samples' names of the masks; with them each sample finds its own mask, also in a subset or another order.
    """

    def __init__(self, values: npt.ArrayLike, ids: tuple[str, ...] = ()) -> None:
        self.values: Masks = as_mask(values)
        self.ids, self._digest = ids, ""
        if not isinstance(self.values, OnDemand):
            self.values = self.values.copy()
            self.values.flags.writeable = False

    def of(self, samples: Sequence[str], space: tuple[int, ...], who: str) -> Masks:
        """The masks of these samples, (n, *space) or (*space); raises `InvalidInput` in the name of `who`."""
        inside, ids = self.values, self.ids
        if ids:
            if len(ids) != len(inside):
                raise InvalidInput(f"{who}: {len(inside)} masks for {len(ids)} ids")
            places = {name: i for i, name in enumerate(ids)}
            if len(places) < len(ids):
                twice = sorted({name for name in ids if ids.count(name) > 1})
                raise InvalidInput(f"{who}: several masks of one id ({', '.join(twice[:3])}): give each sample one")
            missing = [name for name in samples if name not in places]
            if missing:
                raise InvalidInput(f"{who}: no mask for samples {', '.join(missing[:3])}")
            inside = inside[np.array([places[name] for name in samples], np.intp)]
        elif isinstance(inside, OnDemand):
            inside = inside[:]
        if inside.shape not in (space, (len(samples), *space)):
            raise InvalidInput(f"{who}: masks have shape {inside.shape}, expected {(len(samples), *space)} or {space}")
        return inside

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SampleMasks):
            return NotImplemented
        if any(isinstance(held, OnDemand) for held in (self.values, other.values)):
            return repr(self) == repr(other)
        return self.ids == other.ids and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> SampleMasks:
        return self  # nothing in it changes

    def __repr__(self) -> str:
        if not self._digest:
            digest = hashlib.sha256()
            for block in blocks(self.values):
                digest.update(block.tobytes())
            digest.update(repr(self.ids).encode())
            self._digest = digest.hexdigest()
        return f"masks {' × '.join(str(size) for size in self.values.shape)}, sha256 {self._digest[:16]}"


def apply_link(outputs: Array, link: Link) -> Array:
    """link(outputs), of the same shape.

    Raises `InvalidInput` for a softmax over outputs that are probabilities, and for log-odds of what is none.
    """
    if link == "softmax":
        if sums_to_one(outputs):
            raise InvalidInput(
                'link="softmax" over outputs that are probabilities already (each row sums to 1): a second softmax would '
                'flatten every score; write link="identity"'
            )
        return np.asarray(softmax(outputs, axis=-1))
    if link == "log_odds":
        p, rest, _ = _odds(outputs)
        with np.errstate(divide="ignore"):  # infinite where p is 0 or 1
            return np.asarray(np.log(p) - np.log(rest), outputs.dtype)
    return np.asarray(expit(outputs)) if link == "sigmoid" else outputs


def pull_back_link(outputs: Array, link: Link, slope: Array) -> Array:
    """d(score)/d(outputs) where slope is d(score)/d(link(outputs)), all (m, *out)."""
    if link == "identity":
        return slope
    if link == "log_odds":
        return _through_log_odds(outputs, slope)
    p = apply_link(outputs, link)
    if link == "softmax":
        return np.asarray(p * (slope - (p * slope).sum(axis=-1, keepdims=True)))
    return np.asarray(p * (1 - p) * slope)


def _weighed(values: Array, weights: Array, link: Link) -> Array:
    """values · weights; raises `BrokenAssumption` where the log-odds of what is weighed are infinite."""
    if link != "log_odds":
        with np.errstate(invalid="ignore"):  # infinity times 0 is no number, which is said where scores are used
            return values * weights
    used = np.where(weights != 0, values, 0)
    _check_unsaturated(np.isinf(used))
    return np.asarray(used * weights)


def _through_log_odds(outputs: Array, slope: Array) -> Array:
    p, rest, logarithms = _odds(outputs)
    used = slope != 0
    _check_unsaturated(used & ((p == 0) | (rest == 0)))
    own = np.divide(slope, p, out=np.zeros(p.shape), where=used)
    others = np.divide(slope, rest, out=np.zeros(p.shape), where=used)
    if outputs.shape[-1] > 1 and (logarithms or sums_to_one(outputs)):
        others = -_sum_of_others(others)
    slopes = own + others
    return np.asarray(slopes * p if logarithms else slopes, outputs.dtype)


def _odds(outputs: Array) -> tuple[Array, Array, bool]:
    """(p, 1 - p, whether the outputs are logarithms) in float64. Of classes that sum to 1, 1 - p is the sum of the others, which
    is exact where p has been rounded to 1."""
    values = outputs.astype(np.float64)
    if sums_to_one(outputs, logarithms=True):
        p = np.exp(values)
        return p, _sum_of_others(p), True
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < 0 or high > 1 + 1e-6:
        raise InvalidInput(
            f'link="log_odds" is of probabilities; these outputs go from {low:.3g} to {high:.3g}: link="identity" explains the '
            "logit itself"
        )
    return values, _sum_of_others(values) if sums_to_one(outputs) else np.maximum(1 - values, 0), False


def _sum_of_others(values: Array) -> Array:
    """Of each entry, the sum of the others along the last axis, without subtracting it from the whole."""
    before = np.concatenate([np.zeros_like(values[..., :1]), np.cumsum(values[..., :-1], axis=-1)], axis=-1)
    after = np.concatenate([np.cumsum(values[..., :0:-1], axis=-1)[..., ::-1], np.zeros_like(values[..., :1])], axis=-1)
    return np.asarray(before + after)


def _check_unsaturated(infinite: Masks) -> None:
    samples = int(infinite.reshape(len(infinite), -1).any(axis=1).sum())
    if samples:
        raise BrokenAssumption(
            f"the probability that is explained is exactly 0 or 1 for {samples} inputs, so that its log-odds are infinite: the "
            "model's softmax or sigmoid has lost the logit to rounding; explain the probability (identity), or wrap the network "
            "without it"
        )
