"""Pooled features on one scale while a network trains, folded into the next layer afterwards.

A mean over 50,000 pixels hardly moves when a lesion of 300 grows: features that differ by a hundredth between samples, which
Adam at 1e-3 needs thousands of steps to make use of. A batch norm without weights (Ioffe & Szegedy 2015) in front of the
dense layer puts them on one scale; in evaluation it is a linear map, so that the finished network needs no layer for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

Values = npt.NDArray[Any]
EPS = 1e-8
"""Far below the variance of a pooled feature, unlike torch's 1e-5."""


def standardised(module: nn.Module) -> None:
    """Put a batch norm after the `flatten` of each encoder of the module that ends in a dense layer `fc`."""
    for encoder in module.children():
        if isinstance(getattr(encoder, "flatten", None), nn.Flatten):
            width = encoder.get_submodule("fc").in_features
            encoder.flatten = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(int(width), eps=EPS, affine=False))  # type: ignore[arg-type]


def folded(weights: Mapping[str, Values]) -> dict[str, Values]:
    """The state_dict of the network without those batch norms: their statistics become part of each `fc`."""
    found = {name: values for name, values in weights.items() if ".flatten." not in name}
    for name in weights:
        if name.endswith(".flatten.1.running_mean"):
            encoder = name.removesuffix(".flatten.1.running_mean")
            mean = weights[name].astype(np.float64)
            sd = np.sqrt(weights[f"{encoder}.flatten.1.running_var"].astype(np.float64) + EPS)
            kernel = weights[f"{encoder}.fc.weight"] / sd
            bias = weights[f"{encoder}.fc.bias"] - kernel @ mean
            found[f"{encoder}.fc.weight"], found[f"{encoder}.fc.bias"] = (
                kernel.astype(np.float32),
                bias.astype(np.float32),
            )
    return found
