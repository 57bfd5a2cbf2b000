"""Are the inputs what their modalities declare: range, unit, missing values."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai.assumptions.fact import Fact
from crossxai.assumptions.missing import missing_values
from crossxai.errors import InvalidInput
from crossxai.model import Array, Modality, Model

NARROW = 0.05
"""Values that fill less than this share of their range were scaled twice, or not at all."""


def values_of(model: Model, modality: Modality, values: Array) -> list[Fact]:
    """One fact on the range and one on missing values, where there is something to say."""
    name = f"values of {modality.name}"
    try:
        modality.check(values)
    except InvalidInput as error:
        return [Fact(name, "broken", str(error), "axes, dtype and range of the inputs", "every answer")]
    facts = [_range(model, modality, values, name)]
    for missing in missing_values(values, modality):
        facts.append(
            Fact(name, "note", missing.words, "values far from the rest of their column that many samples share",
                 "a missing value is explained as if it were measured", "an imputed value, or leave these samples out")
        )  # fmt: skip
    return facts


def _range(model: Model, modality: Modality, values: Array, name: str) -> Fact:
    low, high = float(values.min()), float(values.max())
    how = "smallest and largest value of these samples, against the declaration"
    hints: dict[str, Any] = dict(model.hints()) if hasattr(model, "hints") else {}
    if modality.range is None:
        return Fact(name, "holds", f"from {low:g} to {high:g}; no range is declared", how)
    width = modality.range[1] - modality.range[0]
    found = f"from {low:g} to {high:g} of {modality.range}"
    scale = float(hints["rescaling"]) if np.isscalar(hints.get("rescaling")) else 1.0
    if modality.spatial and 0 < abs(scale) < 0.05 and width <= 1:
        return Fact(
            name, "note", f"{found}, and the network itself multiplies by {scale:.4g}: it expects 0 to 255", how,
            "the network sees nearly black images", "Modality.image(range=(0, 255)) and images of 0 to 255",
        )  # fmt: skip
    if 0 < high - low < NARROW * width:
        return Fact(
            name, "note", f"{found}: {(high - low) / width:.1%} of the range", how, "fills and noise are shares of the range",
            "the range that the values have, or values that were not divided twice",
        )  # fmt: skip
    return Fact(name, "holds", found, how)
