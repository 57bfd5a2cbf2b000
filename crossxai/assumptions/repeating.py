"""Does a model give the same outputs twice, and do a sample's outputs depend on the samples beside it."""

from __future__ import annotations

import random
import sys
import threading
from typing import Any, NamedTuple

import numpy as np

from crossxai.assumptions.facts import Fact
from crossxai.assumptions.probes import allowance, differ, dimmed, flat, shuffled, two_samples
from crossxai.errors import InvalidInput, ModelFailed
from crossxai.model import Array, Inputs, Layered, Model

DETERMINISTIC, INDEPENDENT = "deterministic", "samples independent"
HOW = "a sample alone, beside others, and in batches of 1, 2 and 7"
WRITE = (
    "a layer that treats samples alone: BatchNorm with running statistics (track_running_stats=True, eval()), a mean over the "
    "sample's own axes only"
)
LARGEST = 64
"""No batch that is looked at holds more samples."""


class Repeated(NamedTuple):
    """Two samples, their outputs, and what was found of them."""

    pair: Inputs
    outputs: Array
    same: Fact
    independent: Fact


def repeating(model: Model, inputs: Inputs) -> Repeated:
    """Whether the same batch gives the same outputs twice, and a sample the same alone and beside others: four passes."""
    pair = two_samples(inputs)
    try:
        return _measured(model, pair)
    except MemoryError:
        how = "two samples do not fit into memory at once"
        unknown = (Fact(name, "unknown", how, how) for name in (DETERMINISTIC, INDEPENDENT))
        return Repeated(pair, np.zeros(0), *unknown)


def at_size(model: Model, inputs: Inputs, repeated: Repeated, size: int) -> Fact | None:
    """What goes wrong with the two samples at the end of a batch of this size, after as many others as there are, in turn;
    unknown where so many do not fit into memory."""
    pair, first = repeated.pair, repeated.outputs
    rows = np.arange(1, size - 1) % len(inputs[0])
    batch = tuple(np.concatenate([values[rows], two_of]) for values, two_of in zip(inputs, pair, strict=True))
    how = f"{HOW}, and of {size}"
    try:
        whole = np.array(model.predict(batch))
    except MemoryError:
        return Fact(INDEPENDENT, "unknown", f"a batch of {size} samples does not fit into memory", how)
    except ModelFailed as error:
        return _dependent(f"a batch of {size} samples: {error}", how)
    last = whole[-2:]
    if len(whole) == size and not differ(first, last, allowance(model, np.concatenate([first, whole]))):
        return None
    return _dependent(
        f"samples of model {model.name!r} see each other in a batch of {size}: a sample's outputs move by "
        f"{_gap(first, last):.2g}, where samples differ by {_spread(first):.2g}",
        how,
    )


def _measured(model: Model, pair: Inputs) -> Repeated:
    before = _generators()
    first = np.array(model.predict(pair))
    # Another thread may have drawn in between: then nothing can be said of the model.
    drawn = threading.active_count() == 1 and not _same(before, _generators())
    second = np.array(model.predict(pair))
    if len(first) != len(pair[0]):
        raise InvalidInput(f"the model gives {len(first)} outputs for {len(pair[0])} samples: keep the sample axis")
    faint = tuple(dimmed(v[:1]) for v in pair)
    alone: Array | ModelFailed
    try:
        alone = np.array(model.predict(faint))
    except ModelFailed as error:
        alone = error
    # Seven samples, an odd number: an empty one, the two in turned order, a faint one, and three shuffled ones.
    company = [
        np.concatenate([flat(v[:1]), v[::-1], f, *(shuffled(v[:1], seed) for seed in range(3))])
        for v, f in zip(pair, faint, strict=True)
    ]
    beside = np.array(model.predict(tuple(company)))
    allowed = allowance(model, np.concatenate([first, beside]))
    same = _deterministic(model, pair, first, second, allowed, drawn)
    if same.verdict == "broken":
        how = "nothing can be told of a model that draws at random"
        return Repeated(pair, first, same, Fact(INDEPENDENT, "unknown", how, how))
    return Repeated(pair, first, same, _independent(model, pair, first, alone, beside, allowed))


def _generators() -> list[Any]:
    """The states of the generators that a model may draw from."""
    torch = sys.modules.get("torch")
    states: list[Any] = [random.getstate()[1], np.random.get_state(legacy=False)["state"]["key"]]  # noqa: NPY002 - the one that models draw from
    return states if torch is None else [*states, torch.get_rng_state().numpy()]


def _same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True)
    )


def _deterministic(model: Model, pair: Inputs, first: Array, second: Array, allowed: Array, drawn: bool) -> Fact:
    how = "the same batch of two samples twice, and the generators of random numbers before and after"
    if not np.isfinite(first).any():
        return Fact(
            DETERMINISTIC, "broken", f"model {model.name!r} gives NaN or infinity for these samples", how, "no answer is right",
            "a model that gives numbers: does it divide by a deviation, or take a logarithm, that can be 0?",
        )  # fmt: skip
    if drawn and not differ(first, second, allowed):
        return Fact(
            DETERMINISTIC, "broken", f"model {model.name!r} draws random numbers in a forward pass", how,
            "now and then its outputs, and with them maps and curves, would be others",
            "training=self.training where it draws (F.dropout, stochastic depth), or a generator of its own with a fixed seed",
        )  # fmt: skip
    if not differ(first, second, allowed):
        if not getattr(model, "traced_matches", lambda _inputs: True)(pair):
            return Fact(
                DETERMINISTIC, "broken",
                f"model {model.name!r} gives other outputs when its code runs than the graph that was traced of it",
                "the traced graph beside the code it was traced from",
                "answers would be those of a network that is no longer there",
                "no draws of NumPy or Python inside call, which a trace keeps for good",
            )  # fmt: skip
        return Fact(DETERMINISTIC, "holds", "the same batch gives the same outputs", how)
    layer = _first(model, pair, pair)
    return Fact(
        DETERMINISTIC, "broken",
        f"model {model.name!r} gives other outputs for the same batch: they differ by up to {_gap(first, second):.2g}, where "
        f"samples differ by {_spread(first):.2g}{layer}", how, "every map and every curve would be drawn by chance",
        "F.dropout(x, p, training=self.training), training=False in Keras, or a fixed seed inside the model: something draws at "
        "random in evaluation mode",
    )  # fmt: skip


def _independent(
    model: Model, pair: Inputs, first: Array, alone: Array | ModelFailed, beside: Array, allowed: Array
) -> Fact:
    if isinstance(alone, ModelFailed):
        return _dependent(f"a sample alone: {alone}")
    own = np.concatenate([alone, first])
    other = beside[[3, 2, 1]]
    if not differ(own, other, allowed):
        return Fact(INDEPENDENT, "holds", "a sample's outputs do not depend on the samples beside it", HOW)
    layer = _first(model, pair, tuple(v[:1] for v in pair))
    return _dependent(
        f"samples of model {model.name!r} see each other: a sample's outputs move by {_gap(own, other):.2g} with the samples "
        f"beside it, where samples differ by {_spread(first):.2g}{layer}"
    )


def _dependent(found: str, how: str = HOW) -> Fact:
    breaks = "explainers score altered copies in batches, so every map would depend on the batch size"
    return Fact(INDEPENDENT, "broken", found, how, breaks, WRITE)


def _first(model: Model, one: Inputs, other: Inputs) -> str:
    """The first layer whose activation of the first sample differs between two batches, in words; "" if none tells."""
    if not isinstance(model, Layered):
        return ""
    before, after = model.activations(one), model.activations(other)
    for name, activation in before.items():
        same_size = name in after and after[name].shape[1:] == activation.shape[1:]
        if same_size and differ(activation[:1], after[name][:1], allowance(model, activation)):
            return f" (first at layer {name!r})"
    return ""


def _gap(one: Array, other: Array) -> float:
    return float(np.nanmax(np.abs(one.astype(np.float64) - other), initial=0.0))


def _spread(outputs: Array) -> float:
    rows: Any = outputs.reshape(len(outputs), -1).astype(np.float64)
    return float(np.nanmax(np.ptp(rows, axis=0), initial=0.0))
