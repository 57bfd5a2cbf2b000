"""A model as an ordinary network of either framework, whose layers the hooks of explainer libraries find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from crossxai.graph import Graph
from crossxai.model import Inputs, Traceable

Framework = Literal["torch", "keras"]


@dataclass(frozen=True, eq=False)
class Twin:
    """A network that computes what a model computes.

    module: a torch.nn.Module (one tensor per modality, images channels first) or a flat functional keras.Model (channels
    last, a list if several), which takes raw inputs, standardisation included. layers: layer name of the original model ->
    submodule (torch) or layer name (Keras). gap: the measured certificate, the largest |difference| of the outputs on the
    samples given, as a share of the largest |output|.
    """

    module: Any
    graph: Graph
    layers: Mapping[str, Any]
    gap: float


def twin(
    model: Traceable, inputs: Inputs, framework: Framework, dtype: Literal["float32", "float64"] | None = None
) -> Twin:
    """The twin of a model for inputs of these sizes; in the dtype of its weights unless told.

    Raises `Unsupported` if a layer has no translation or the outputs differ by more than 1e-3 (1e-8 in float64).
    """
    raise NotImplementedError
