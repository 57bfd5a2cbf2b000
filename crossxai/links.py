"""Links: what is made of a model's outputs before they are weighed, and the slopes of that."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import expit, softmax

from crossxai.errors import BrokenAssumption, InvalidInput
from crossxai.model import Array
from crossxai.outputs import sums_to_one

Link = Literal["identity", "softmax", "sigmoid", "log_odds"]


def linked(outputs: Array, link: Link) -> Array:
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
        return _log_odds(outputs)
    return np.asarray(expit(outputs)) if link == "sigmoid" else outputs


def through(outputs: Array, link: Link, slope: Array) -> Array:
    """d(score)/d(outputs) where slope is d(score)/d(link(outputs)), all (m, *out)."""
    if link == "identity":
        return slope
    if link == "log_odds":
        return _through_log_odds(outputs, slope)
    p = linked(outputs, link)
    if link == "softmax":
        return np.asarray(p * (slope - (p * slope).sum(axis=-1, keepdims=True)))
    return np.asarray(p * (1 - p) * slope)


def weighed(values: Array, weights: Array, link: Link) -> Array:
    """values · weights; raises `BrokenAssumption` where the log-odds of what is weighed are infinite."""
    if link != "log_odds":
        with np.errstate(
            invalid="ignore"
        ):  # infinity times 0: a score that is no number, which is said where it is used
            return values * weights
    used = np.where(weights != 0, values, 0)
    if np.isinf(used).any():
        _saturated(int(np.isinf(used).reshape(len(used), -1).any(axis=1).sum()))
    return np.asarray(used * weights)


def _log_odds(outputs: Array) -> Array:
    """log(p / (1 - p)) of probabilities, or of what log-probabilities stand for; infinite where p is 0 or 1."""
    p, rest, _ = _odds(outputs)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p) - np.log(rest), outputs.dtype)


def _through_log_odds(outputs: Array, slope: Array) -> Array:
    p, rest, logarithms = _odds(outputs)
    used = slope != 0
    if (used & ((p == 0) | (rest == 0))).any():
        _saturated(int((used & ((p == 0) | (rest == 0))).reshape(len(p), -1).any(axis=1).sum()))
    own = np.divide(slope, p, out=np.zeros(p.shape), where=used)
    others = np.divide(slope, rest, out=np.zeros(p.shape), where=used)
    if outputs.shape[-1] > 1 and (logarithms or sums_to_one(outputs)):
        others = -_sum_of_others(others)
    found = own + others
    return np.asarray(found * p if logarithms else found, outputs.dtype)


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


def _saturated(samples: int) -> None:
    raise BrokenAssumption(
        f"the probability that is explained is exactly 0 or 1 for {samples} inputs, so that its log-odds are infinite: the "
        "model's softmax or sigmoid has lost the logit to rounding; explain the probability (identity), or wrap the network "
        "without it"
    )
