"""What every adapter checks and prepares: inputs, outputs, and the (x - mean) / sd that belongs to the model's side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossxai.errors import InvalidInput, ModelFailed, UnknownName, Unsupported
from crossxai.model import Array, Inputs, Modality

MeanSd = tuple[Sequence[float], Sequence[float]]
WITHOUT_GRADIENTS = "explainers that ask for scores alone still answer: occlusion, RISE, LIME, KernelSHAP"
"""What to take where there is no gradient."""


def constants(standardise: Mapping[str, MeanSd] | None, modalities: tuple[Modality, ...]) -> list[tuple[Array, Array]]:
    """(mean, sd) per modality as float64 arrays (channels,); zero and one where none is given."""
    given = dict(standardise or {})
    for name in given:
        if name not in {m.name for m in modalities}:
            raise UnknownName("modality to standardise", name, [m.name for m in modalities])
    found: list[tuple[Array, Array]] = []
    for modality in modalities:
        size = len(modality.features)
        pair = given.get(modality.name, (np.zeros(size), np.ones(size)))
        try:
            mean, sd = (np.asarray(v, dtype=np.float64) for v in pair)
        except (TypeError, ValueError):
            mean = sd = np.full(0, np.nan)
        if mean.shape != (size,) or sd.shape != (size,) or not (np.isfinite(mean).all() and (sd > 0).all()):
            raise InvalidInput(
                f"standardise[{modality.name!r}] needs (mean, sd) with {size} finite numbers each and sd > 0, got {pair}"
            )
        found.append((mean, sd))
    return found


def check_modalities(modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
    """The modalities; raises `InvalidInput` unless they are a tuple of different ones."""
    if not isinstance(modalities, tuple) or not modalities or not all(isinstance(m, Modality) for m in modalities):
        raise InvalidInput(f"modalities are a tuple, such as (Modality.image(),); got {modalities!r}")
    names = [m.name for m in modalities]
    if len(set(names)) < len(names):
        raise InvalidInput(f"modalities need different names, got {', '.join(names)}")
    return modalities


def check_inputs(inputs: Inputs, modalities: tuple[Modality, ...], model: str) -> None:
    """Raise `InvalidInput` unless there is one array per modality with the declared axes and channels."""
    if not isinstance(inputs, tuple) or len(inputs) != len(modalities):
        names = ", ".join(m.name for m in modalities)
        given = f"{len(inputs)} arrays" if isinstance(inputs, tuple) else type(inputs).__name__
        raise InvalidInput(f"model {model!r} takes a tuple of {len(modalities)} arrays ({names}), got {given}")
    for modality, values in zip(modalities, inputs, strict=True):
        if values.ndim != len(modality.axes) + 1 or values.shape[-1] != len(modality.features):
            modality.check(values, f"model {model!r}, ")


def check_outputs(shape: tuple[int, ...], axes: tuple[str, ...], model: str) -> None:
    """Raise `InvalidInput` unless outputs (n, *out) have the declared axes."""
    if len(shape) != len(axes) + 1:
        raise InvalidInput(
            f"model {model!r} gives outputs of shape {shape}; output_axes={axes} declares {len(axes)} axes after the sample "
            'axis: write output_axes=("class",) for class scores or ("y", "x", "class") for a segmentation map'
        )


def failed(model: str, inputs: Inputs, error: Exception) -> ModelFailed:
    """What the model's own code raised, in words."""
    words = " ".join(str(error).split())
    shapes = ", ".join(str(values.shape) for values in inputs)
    return ModelFailed(
        f"model {model!r} raised {type(error).__name__} on inputs of shape {shapes}: {words[:300] or 'without a word'}"
    )


def one_output(result: Any, wanted: str | int | None, axes: tuple[str, ...], tensor: Any, model: str) -> Any:
    """The one tensor of what a network returned: itself, or an entry of a dict, a tuple or a list.

    wanted: its key or position; None takes the one that has the declared axes. tensor: the framework's type of tensors.
    Raises `Unsupported` if there is none, or several and none was named.
    """
    if isinstance(result, tensor):
        return result
    entries: dict[Any, Any] = {}
    if isinstance(result, Mapping):
        entries = dict(result)
    elif isinstance(result, tuple | list):
        entries = dict(enumerate(result))
    elif hasattr(result, "__dataclass_fields__"):
        entries = {name: getattr(result, name) for name in result.__dataclass_fields__}
    known = ", ".join(f"{key!r} {tuple(v.shape)}" for key, v in entries.items() if isinstance(v, tensor)) or "no tensor"
    if wanted is not None:
        if isinstance(entries.get(wanted), tensor):
            return entries[wanted]
        raise Unsupported(f"model {model!r} has no output {wanted!r}: it returns {type(result).__name__} with {known}")
    fitting = [key for key, v in entries.items() if isinstance(v, tensor) and len(v.shape) == len(axes) + 1]
    if len(fitting) == 1:
        return entries[fitting[0]]
    write = (
        f"; write output={fitting[0]!r}, say, at its adapter" if fitting else ": wrap it in a module that returns one"
    )
    raise Unsupported(
        f"model {model!r} returns {type(result).__name__} ({known}), of which {len(fitting)} have the axes (n, "
        f"{', '.join(axes)}){write}"
    )


def as_rows(outputs: Any, n: int, axes: tuple[str, ...], model: str) -> Any:
    """Outputs (n,) of a network that ends in squeeze() as (n, 1); anything else as it is.

    Raises `InvalidInput` where the sample axis is lost, too.
    """
    shape = tuple(outputs.shape)
    if len(axes) != 1 or len(shape) > 1:
        return outputs
    if shape in ((n,), ()) and (shape or n == 1):
        return outputs.reshape(n, 1)
    raise InvalidInput(
        f"model {model!r} gives outputs of shape {shape} for {n} samples: one output a sample has the shape (n, 1); write "
        "squeeze(-1) at most, or no squeeze() at all, so that the sample axis stays"
    )
