"""What a model's outputs are: logits, probabilities, log-probabilities or values; declared, or measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from crossxai.assumptions.facts import itself, kind_of, known
from crossxai.errors import CrossXAIError, InvalidInput
from crossxai.model import Array, Inputs, Modality, Model
from crossxai.process import foreign

Outputs = Literal["logits", "probabilities", "log_probabilities", "values"]

DECLARE = (
    'declare it: outputs="logits", "probabilities", "log_probabilities" or "values" at the adapter, in an experiment '
    'outputs = "…" under [[models]]'
)
ENDINGS: dict[str, Outputs] = {
    **{"sigmoid": "probabilities", "softmax": "probabilities", "linear": "logits"},
    **{"log-softmax": "log_probabilities", "log-sigmoid": "log_probabilities"},
}
"""What outputs are by a network's last operation, as adapters name it."""

EXTREMES = (3.0, 100.0, 3000.0)
"""How many times the half range of each modality extreme inputs leave its middle; columns of whole numbers, which may be codes,
stay."""
BOTH_WAYS = (100.0, -100.0, 3000.0, -3000.0)
"""The same for outputs that are never negative: what is bounded is as large at the second pair as at the first."""


@dataclass(frozen=True)
class Kind:
    """kind: what the outputs are, "unknown" where neither the network nor its outputs tell. how: it is known, in words."""

    kind: Outputs | Literal["unknown"]
    how: str


def check_declared(outputs: str | None) -> Outputs | None:
    """The declaration of an adapter's `outputs`, None for none; raises `InvalidInput` for an unknown word."""
    if outputs is not None and outputs not in get_args(Outputs):
        raise InvalidInput(f"outputs is one of {', '.join(get_args(Outputs))}, or None to measure it; got {outputs!r}")
    return outputs  # type: ignore[return-value]


def kind(model: Model, inputs: Inputs, outputs: Array | None = None) -> Kind:
    """What the model's outputs are: declared, or measured.

    Measured in this order: rows that sum to 1, or values outside of [0, 1]; the last operation; outputs on extreme inputs.
    Logits and the values of a regression are not told apart: what is no probability is "logits". "unknown" is what may be
    either: all in [0, 1] and no sigmoid is seen, or probabilities on a scale of their own, such as percent.

    Parameters
    ----------
    model : Model
        It is run on two samples without outputs, on one if no output is negative, and on four if that does not tell, once per
        model.
    inputs : tuple of arrays (n, *axes), some samples
    outputs : array (n, *out), optional, the model's on them, if they are known

    Returns
    -------
    Kind, the kind, and in words how it is known
    """
    declared = getattr(model, "outputs", None)
    if declared is not None:
        return Kind(declared, "declared")
    model, few = itself(model), tuple(values[:2] for values in inputs)
    if outputs is None:
        return known(model, ("outputs", kind_of(few)), lambda: _measured(model, few, np.asarray(model.predict(few))))
    return _measured(model, few, outputs)


def _measured(model: Model, few: Inputs, outputs: Array) -> Kind:
    shown = seen(outputs)
    if shown is not None and (shown.kind != "logits" or outputs.min() < 0 < outputs.max()):
        return shown
    last = known(model, ("ending", kind_of(few)), lambda: _of_ending(model, few))
    if shown is not None and outputs.max() <= 0:  # a log-sigmoid's show it by no sum
        return last if last is not None and last.kind == "log_probabilities" else shown
    if shown is not None:  # none is negative, some are above 1: logits, or probabilities in percent
        bounded = None if last is not None else known(model, ("bounded", kind_of(few)), lambda: _of_bounds(model, few))
        return bounded or shown
    return last or known(model, ("extremes", kind_of(few)), lambda: _of_extremes(model, few))


def seen(outputs: Array) -> Kind | None:
    """What outputs (n, *out, classes) show by themselves: None where they all lie in [0, 1] and do not sum to 1."""
    if sums_to_one(outputs):
        return Kind("probabilities", f"the {outputs.shape[-1]} outputs of each sample sum to 1")
    if sums_to_one(outputs, logarithms=True):
        return Kind("log_probabilities", f"exp of the {outputs.shape[-1]} outputs of each sample sums to 1")
    total = _one_sum(outputs)
    if total is not None:
        return Kind("unknown", f"the {outputs.shape[-1]} outputs of each sample sum to {total:.4g}")
    finite = outputs[np.isfinite(outputs)]
    if finite.size and not _within(finite):
        return Kind("logits", f"outputs from {finite.min():.3g} to {finite.max():.3g}")
    return None


def _one_sum(outputs: Array) -> float | None:
    """What outputs (n, *out, classes) sum to in every row, to rounding, where none is negative and they differ between rows."""
    if outputs.shape[-1] < 2 or not np.isfinite(outputs).all():
        return None
    rows = outputs.reshape(-1, outputs.shape[-1]).astype(np.float64)
    if len(rows) < 2 or rows.min() < 0:
        return None
    sums = rows.sum(axis=1)
    rounding = 8 * max(float(np.finfo(outputs.dtype).eps), 1e-7) * float(sums.max())
    varies = float(np.ptp(rows, axis=0).max()) > 50 * rounding
    return float(sums.mean()) if varies and float(np.ptp(sums)) <= rounding else None


def sums_to_one(outputs: Array, logarithms: bool = False) -> bool:
    """Whether outputs (n, *out, classes), or exp of them, are probabilities of several classes that sum to 1 in every row.

    In half precision they do so to 0.004, but then the sums differ much less than the outputs. Two small logits sum to nearly
    1 now and then, so a row alone must do so to rounding.
    """
    if outputs.shape[-1] < 2 or not outputs.size or (outputs.max() > 0 if logarithms else outputs.min() < 0):
        return False
    rows = outputs.reshape(-1, outputs.shape[-1]).astype(np.float64)
    rows = np.exp(rows) if logarithms else rows
    sums = rows.sum(axis=1)
    rounding = 8 * max(float(np.finfo(outputs.dtype).eps), 1e-7)
    off = float(np.abs(sums - 1).max())
    if off <= rounding or len(rows) == 1:
        return off <= rounding
    alike = float(np.ptp(sums)) <= max(rounding, 0.02 * float(np.ptp(rows, axis=0).max()))
    return alike and off <= (4e-3 if len(rows) >= 8 else 1e-5)


def check_known(known: Kind, model: str, decides: str) -> None:
    """Raise `InvalidInput`, which says how to declare it, where what the outputs are is unknown. decides: what depends on it."""
    if known.kind == "unknown":
        raise InvalidInput(
            f"model {model!r}: {known.how}, so that it cannot be told whether they are logits or probabilities, which decides "
            f"{decides}; {DECLARE}"
        )


def probability_link(
    known: Kind, n_classes: int, model: str, link: str = "auto"
) -> Literal["identity", "softmax", "sigmoid"]:
    """The link that makes probabilities of the outputs: "identity" where they are some. link: "softmax" or "sigmoid" for logits;
    "auto" is softmax, but sigmoid for one output. Raises `InvalidInput` where it is unknown what the outputs are."""
    check_known(known, model, "what their probabilities are")
    if known.kind in ("probabilities", "values"):
        return "identity"
    if known.kind == "log_probabilities" and (n_classes == 1 or link == "sigmoid"):
        raise InvalidInput(
            f"model {model!r} gives log-probabilities ({known.how}), of which a softmax over several classes makes "
            f"probabilities; asked for is {link} over {n_classes} output{'s' * (n_classes > 1)}"
        )
    if link == "auto":
        return "sigmoid" if n_classes == 1 else "softmax"
    return "sigmoid" if link == "sigmoid" else "softmax"


def check_link(link: str, known: Kind, model: str, name: str = "link") -> None:
    """Raise `InvalidInput` for a link (a `Target`'s, or the probability of a measure) that these outputs have been through
    already, or may have been, or that they cannot go through. name: that of the parameter."""
    if link != "identity":
        check_known(known, model, f'what {name}="{link}" makes of them')
    if known.kind == "probabilities" and link in ("softmax", "sigmoid"):
        raise InvalidInput(
            f"model {model!r} gives probabilities already ({known.how}): a second {link} would flatten every score; "
            f'write {name}="identity"'
        )
    if known.kind == "log_probabilities" and link == "sigmoid":
        raise InvalidInput(
            f'model {model!r} gives log-probabilities ({known.how}): write {name}="softmax", which gives the probabilities'
        )
    if known.kind in ("logits", "values") and link == "log_odds":
        raise InvalidInput(
            f"model {model!r} gives {known.kind} ({known.how}), log-odds are those of probabilities: "
            'link="identity" explains the logit'
        )


def check_target(model: Model, inputs: Inputs, target: Any, outputs: Array | None = None) -> None:
    """Raise `InvalidInput` where a `Target` or a measure puts the model's outputs through a link that they have been through, or
    may have been, or cannot go through; measures what they are only if there is such a link."""
    link = getattr(target, "probability", getattr(target, "link", "identity"))
    if link in ("softmax", "sigmoid", "log_odds"):
        name = "probability" if hasattr(target, "probability") else "link"
        check_link(link, kind(model, inputs, outputs), model.name, name)


def _failures() -> tuple[type[Exception], ...]:
    """What asking a model for its last operation, or for its outputs on strange inputs, may raise."""
    return (CrossXAIError, *foreign())


def _within(values: Array) -> bool:
    """Whether all lie in [0, 1], up to rounding."""
    slack = 8 * float(np.finfo(values.dtype).eps)
    return bool(values.min() >= -slack and values.max() <= 1 + slack)


def _of_ending(model: Model, few: Inputs) -> Kind | None:
    """By the network's last operation, which the adapters of frameworks tell; None where it is another than `ENDINGS`."""
    if not hasattr(model, "ending"):
        return None
    try:
        last = model.ending(tuple(values[:1] for values in few))
    except _failures():  # the outputs themselves will tell
        return None
    if last not in ENDINGS:
        return None
    return Kind(ENDINGS[last], "its last layer has no activation" if last == "linear" else f"it ends in a {last}")


def _outputs_on(model: Model, few: Inputs, moved: Callable[..., Array], seed: int) -> Array | None:
    """The outputs on inputs that a function moves away from these; None where the model does not take them."""
    rng = np.random.default_rng([0, seed])
    inputs = tuple(moved(m, v, rng) for m, v in zip(model.modalities, few, strict=True))
    try:
        with np.errstate(all="ignore"):  # a sigmoid written in NumPy overflows there
            return np.asarray(model.predict(inputs))
    except _failures():
        return None


def _of_extremes(model: Model, few: Inputs) -> Kind:
    """By outputs on shuffled and extreme inputs: a sigmoid keeps all in [0, 1] and goes near its ends, logits leave it."""
    outputs = _outputs_on(model, few, _extreme, 2)
    if outputs is None:
        return Kind("unknown", "all outputs lie in [0, 1], and it takes no extreme inputs")
    finite = outputs[np.isfinite(outputs)]
    if finite.size and not _within(finite):
        return Kind("logits", f"outputs from {finite.min():.3g} to {finite.max():.3g} on extreme inputs")
    # Exactly 0 is also what a dead ReLU gives.
    near = bool((finite > 0.99).any() or ((finite > 0) & (finite < 0.01)).any())
    if near and np.ptp(finite) > 1e-3:
        return Kind("probabilities", f"all of {finite.size} outputs on extreme inputs lie in [0, 1], near its ends")
    return Kind("unknown", "all outputs lie in [0, 1], on extreme inputs, too")


def _of_bounds(model: Model, few: Inputs) -> Kind | None:
    """Whether outputs of which none is negative stay below the same bound on extreme inputs, as probabilities in percent do; None
    where they do not, or where they are not to be had."""
    outputs = _outputs_on(model, few, _far, 3)
    if outputs is None or not np.isfinite(outputs).all() or outputs.min() < 0:
        return None
    near, far = (float(pair.max()) for pair in np.split(outputs.astype(np.float64), 2))
    if not 0.99 * near <= far <= 1.01 * near or not np.ptp(outputs, axis=0).max() > 1e-3 * near:
        return None
    return Kind("unknown", f"none of the outputs is negative, nor above {far:.4g} on inputs however extreme")


def _extreme(modality: Modality, values: Array, rng: np.random.Generator) -> Array:
    """Four inputs: the first sample shuffled, and noise around an offset, farther and farther from the middle of the range."""
    shuffled = rng.permuted(values[:1], axis=1)
    offsets = rng.choice([-1.0, 1.0], (len(EXTREMES), *[1] * (values.ndim - 2), values.shape[-1]))
    noise = offsets + rng.uniform(-1, 1, (len(EXTREMES), *values.shape[1:]))
    return _codes_kept(modality, values, np.concatenate([shuffled, _away(modality, values, noise, EXTREMES)]))


def _far(modality: Modality, values: Array, rng: np.random.Generator) -> Array:
    """Four inputs: noise around an offset to either side of the middle of the range, and the same farther away."""
    offset = rng.choice([-1.0, 1.0], (1, *[1] * (values.ndim - 2), values.shape[-1]))
    noise = offset + rng.uniform(-1, 1, (1, *values.shape[1:]))
    return _codes_kept(modality, values, _away(modality, values, noise, BOTH_WAYS))


def _away(modality: Modality, values: Array, noise: Array, times: tuple[float, ...]) -> Array:
    """Noise (1 or n, *axes) so many times the half range away from the middle of the range."""
    low, high = modality.range or (float(values.min()), float(values.max()))
    half = (high - low) / 2 or 1.0
    scale = np.reshape(times, (-1, *[1] * (values.ndim - 1)))
    return np.asarray(((low + high) / 2 + half * scale * noise).astype(values.dtype))


def _codes_kept(modality: Modality, values: Array, moved: Array) -> Array:
    if not modality.spatial:  # whole numbers may be codes, of which a network knows those that there are
        codes = (values == np.round(values)).reshape(-1, values.shape[-1]).all(axis=0)
        moved[..., codes] = values[:1][..., codes]
    return np.asarray(moved)
