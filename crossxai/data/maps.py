"""Maps that other programs made, as attributions: plain arrays whose axes are declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossxai.attribution import Attribution
from crossxai.data.arrays import as_numpy
from crossxai.errors import InvalidInput
from crossxai.model import Array, Modality

_SPACE = {1: "L", 2: "HW", 3: "DHW"}


def attribution_of(
    values: Any,
    modality: Modality,
    layout: str,
    explainer: str,
    *,
    target: Any,
    ids: Sequence[str],
    params: Mapping[str, Any],
) -> Attribution:
    """An attribution of one array, whose axes are in the order of `layout`; raises `InvalidInput`."""
    array = np.asarray(as_numpy(values))
    who = f"maps of {modality.name!r}"
    if not np.issubdtype(array.dtype, np.floating):
        raise InvalidInput(f"{who} are floats, got {array.dtype} ({type(values).__name__})")
    space = _SPACE.get(len(modality.axes) - 1, "") if modality.spatial else ""
    known = (f"NC{space}", f"N{space}C", f"N{space}") if space else ("NF",)
    if layout not in known:
        raise InvalidInput(f"{who}: layout says the order of their axes, one of {', '.join(known)}; got {layout!r}")
    if array.ndim != len(layout):
        raise InvalidInput(f"{who}: layout {layout} has {len(layout)} axes, the array has shape {array.shape}")
    if not array.size:
        raise InvalidInput(f"{who}: the array is empty, of shape {array.shape}")
    if space and layout == f"N{space}":
        array = array[..., None]
    elif space and layout == f"NC{space}":
        array = np.moveaxis(array, 1, -1)
    n, channels = len(modality.features), array.shape[-1]
    if channels not in ((1, n) if space else (n,)):
        axis = "columns" if not space else "channels"
        wanted = f"{n}" if not space or n == 1 else f"1 or {n}"
        raise InvalidInput(
            f"{who}: layout {layout} says that shape {np.shape(as_numpy(values))} has {channels} {axis}; {modality.name!r} has "
            f"{wanted}: write another layout, or another modality"
        )
    names = tuple(map(str, ids)) or tuple(str(i) for i in range(len(array)))
    if len(set(names)) != len(array):
        raise InvalidInput(f"{who}: {len(array)} samples need as many different ids, got {len(set(names))}")
    explained = target if target is None or hasattr(target, "cotangent") else _classes(who, target, len(array))
    if not isinstance(explainer, str) or not explainer:
        raise InvalidInput(f"{who}: explainer is a name, such as 'captum.IntegratedGradients'; got {explainer!r}")
    kept: Array = array.astype(np.float64 if array.dtype == np.float64 else np.float32)
    return Attribution((kept,), (modality,), names, explainer, params=dict(params), target=explained)


def _classes(who: str, target: Any, n: int) -> Any:
    """A class for all samples, or one for each."""
    chosen = np.asarray(as_numpy(target))
    if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (n,)):
        raise InvalidInput(f"{who}: target is a class, or one for each of the {n} samples; got {target!r}")
    return chosen if chosen.ndim else int(chosen)
