"""Values of a modality in other units: in [0, 1], as image processing such as segmentation takes them to be, or standardised."""

from __future__ import annotations

import numpy as np

from crossxai.model import Array, Modality

LEVELS = 65535
"""Of 16 bits; those of 8 bits are among them, since 65535 = 255 · 257."""


def span(modality: Modality, values: Array) -> tuple[float, float]:
    """(lowest, highest): the declared range, else the smallest and largest of these values, all channels together."""
    if modality.range is not None:
        return modality.range
    return float(values.min()), float(values.max())


def unit(values: Array, modality: Modality) -> Array:
    """One sample (*axes) with its declared range put to [0, 1], in its own precision; 0 everywhere if all values are the same and
    no range is declared.

    Values of 8 or 16 bits become k / 255 or k / 65535 to the last bit: quickshift decides ties, of which such images are full, by
    differences as small as rounding.
    """
    low, high = span(modality, values)
    scaled = (values.astype(np.float64) - low) / (high - low) if high > low else np.zeros(values.shape)
    steps = scaled * LEVELS
    whole = np.round(steps)
    if np.abs(steps - whole).max(initial=0) < 0.02:  # float32 is off by 0.008 at most
        scaled = whole / LEVELS
    return np.asarray(scaled, values.dtype)


def standard_units(values: Array, mean: Array, sd: Array) -> Array:
    """(values - mean) / sd, in the values' precision."""
    return np.asarray(((values - mean) / sd).astype(values.dtype))
