"""A model as an ordinary network of either framework, whose layers the hooks of explainer libraries find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from crossxai.adapters.returned import leaves
from crossxai.assumptions.facts import itself
from crossxai.errors import CrossXAIError, InvalidInput, Unsupported
from crossxai.model import Array, Inputs, Model
from crossxai.porting.building import first_line
from crossxai.porting.certificate import Predict, gap
from crossxai.porting.graph import Graph, Traceable, without_dropout
from crossxai.porting.rules import rule as rule
from crossxai.porting.sizes import is_open, opened
from crossxai.process import foreign, streams_kept

Framework = Literal["torch", "keras"]
SAMPLES = 4
"""How many of the inputs the certificate is measured on."""


@dataclass(frozen=True, eq=False)
class Twin:
    """A network that computes what a model computes.

    module: a torch.nn.Module (one tensor per modality, images channels first) or a flat functional keras.Model (channels
    last, a list if several), which takes raw inputs, standardisation included, and gives the output that counts or, made to
    train, all that the model returns. layers: layer name of the original model ->
    submodule (torch) or layer name (Keras). gap: the measured certificate, the largest |difference| of the outputs as a share
    of how far they vary, on samples, the same with their pixels shuffled, and noise; see `crossxai.porting.certificate`. open: it
    takes images of other sizes, too.
    """

    module: Any
    graph: Graph
    layers: Mapping[str, Any]
    gap: float
    open: bool = False


def twin(
    model: Model,
    inputs: Inputs,
    framework: Framework,
    dtype: Literal["float32", "float64"] | None = None,
    *,
    trains: bool = False,
) -> Twin:
    """The twin of a model for inputs of these sizes; in the dtype of its weights unless told.

    trains: for training, too: with what drops at random there, layers that run more than once as one, neither of which hooks of
    explainers want, and sizes of images left open where the network allows. Raises `Unsupported` if a layer has no translation or
    the gap is more than 1e-3 (1e-8 in float64).
    """
    if not isinstance(model, Traceable):
        raise Unsupported(
            f"model {getattr(model, 'name', model)!r} cannot say what it is made of: wrap a torch module in TorchModel, a "
            "Keras model in KerasModel"
        )
    graph = model.graph(inputs, whole=True) if trains else without_dropout(model.graph(inputs))
    samples = tuple(values[:SAMPLES] for values in inputs)
    if framework not in ("torch", "keras"):
        raise InvalidInput(f"framework is 'torch' or 'keras', got {framework!r}")
    anywhere = trains and is_open(model, graph, inputs, framework)
    try:
        with streams_kept():  # layers draw weights when they are made, before they get the model's
            module, layers, predict = (_torch if framework == "torch" else _keras)(graph, dtype, trains, anywhere)
        difference = gap(itself(model).predict, predict, samples, model.modalities)
    except CrossXAIError:
        raise
    except foreign() as error:
        raise Unsupported(
            f"model {model.name!r} cannot be rebuilt in {framework}: {type(error).__name__}: {first_line(error)}"
        ) from error
    exact = (dtype or graph.dtype.name) == graph.dtype.name == "float64"
    limit = 1e-8 if exact else 1e-3
    if not difference <= limit:  # NaN included
        raise Unsupported(
            f"the {framework} twin of model {model.name!r} differs from it by {difference:.1e} of how far its outputs vary, more "
            f"than {limit:.0e} (measured on samples, the same with their pixels shuffled, and noise): {_why(graph, model)}"
        )
    return Twin(module, graph, layers, difference, anywhere)


def _why(graph: Graph, model: Model) -> str:
    """What makes a twin differ, as far as the graph and the model tell."""
    if (precision := getattr(itself(model), "precision", "float32")) != "float32":
        return f"the model computes in {precision}, a twin in float32: wrap the network without precision={precision!r} for this"
    if not graph.coarser:
        return "some layer was not translated exactly"
    first = ", ".join([f"{layer!r} ({dtype})" for layer, dtype in graph.coarser.items()][:3])
    first += ", …" * (len(graph.coarser) > 3)
    return (
        f"it computes in less precision than its weights have (mixed precision: {first}), a twin "
        'in that of the weights: make the network anew under keras.config.set_dtype_policy("float32") and give it the weights '
        "by set_weights"
    )


def unread(graph: Graph) -> set[str]:
    """The inputs of a graph that reach no output."""
    return set(graph.inputs) - {source for node in graph.nodes for source in node.inputs} - {*graph.ends}


def _rows(outputs: Array) -> Array:
    """One number per sample as a row of one, as adapters have it."""
    return outputs[:, None] if outputs.ndim == 1 else outputs


def _torch(graph: Graph, dtype: str | None, trains: bool, anywhere: bool) -> tuple[Any, dict[str, Any], Predict]:
    import torch

    from crossxai.porting.to_torch import build

    module = build(graph, dtype, sharing=trains, sized=trains and not anywhere)
    like = torch.float64 if (dtype or graph.dtype.name) == "float64" else torch.float32

    def predict(samples: Inputs) -> Array:
        tensors = [torch.tensor(values, dtype=like).movedim(-1, 1) for values in samples]
        with torch.inference_mode(False), torch.no_grad():
            outputs = dict(leaves(module(*tensors)))[graph.path]
        return _rows((outputs.movedim(1, -1) if outputs.ndim > 2 else outputs).contiguous().numpy())

    return module, {layer: module.layer(node) for layer, node in graph.layers.items()}, predict


def _keras(graph: Graph, dtype: str | None, trains: bool, anywhere: bool) -> tuple[Any, dict[str, Any], Predict]:
    from crossxai.porting.to_keras import build

    module, names = build(opened(graph) if anywhere else graph, dtype, sharing=trains)

    def predict(samples: Inputs) -> Array:
        given = [values.astype(dtype or graph.dtype) for values in samples]
        returned = module(given[0] if len(given) == 1 else given, training=False)
        return _rows(np.asarray(dict(leaves(returned))[graph.path]))

    return module, {layer: names[node] for layer, node in graph.layers.items()}, predict
