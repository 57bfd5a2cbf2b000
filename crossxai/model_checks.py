"""What every adapter checks and prepares: inputs, outputs, and the (x - mean) / sd that belongs to the model's side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from crossxai.errors import InvalidInput, UnknownName
from crossxai.model import Array, Inputs, Modality

MeanSd = tuple[Sequence[float], Sequence[float]]


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
