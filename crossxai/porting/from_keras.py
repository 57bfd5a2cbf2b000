"""A Keras model read as a graph: its `call` run on symbols of the sizes at hand, nested models and composite layers opened."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import keras

from crossxai.adapters.checks import MeanSd, overridden
from crossxai.adapters.returned import tensors_of
from crossxai.errors import CrossXAIError, Unsupported
from crossxai.model import Modality
from crossxai.porting import rules
from crossxai.porting.building import Builder, first_line, untranslated
from crossxai.porting.from_keras_dropout import is_stochastic_depth, stochastic_depth
from crossxai.porting.from_keras_layers import LAYERS, OPERATIONS
from crossxai.porting.from_keras_ops import Call, Ref
from crossxai.porting.graph import Graph
from crossxai.porting.to_keras import HARMLESS


def graph_of(
    model: Any,
    shapes: Sequence[tuple[int, ...]],
    modalities: tuple[Modality, ...],
    names: Mapping[str, Any],
    standardise: Mapping[str, MeanSd] | None = None,
    dtype: str = "float32",
    arrange: Callable[[Sequence[Any]], tuple[Any, Any]] = lambda values: (
        (values[0] if len(values) == 1 else values,),
        {},
    ),
    choose: Callable[[Any], Any] = lambda outputs: outputs,
    whole: bool = False,
) -> Graph:
    """The graph of a built model for inputs of these shapes (without the sample axis), one per modality. names: name ->
    layer, nested ones included, as the layers of the graph are to be called. arrange: one value per modality → (args,
    kwargs) of the model. choose: what the model returns → the tensor that counts. whole: with every tensor that it returns. The
    model is left as found. Raises
    `Unsupported` if it cannot be traced or holds a layer without a translation."""
    builder = Builder(modalities, shapes, standardise, dtype)
    reader = _Reader(model, builder, {id(layer): name for name, layer in names.items()}, dtype)
    inputs = [Ref(start, (None, *shape)) for start, shape in zip(builder.start, shapes, strict=True)]
    with _restored([model, *names.values()]):
        output, returned = reader.opened(model, *arrange(inputs), partial(_ends, choose, whole))
    if not isinstance(output, Ref):
        raise Unsupported(f"model {model.name!r} returns no single tensor of its own that depends on the inputs")
    if output.rank == 1 and returned is None:
        output = Ref(builder.add("output", "reshape", (output.name,), shape=(1,)), (None, 1))
    returns = None if returned is None else keras.tree.map_structure(lambda ref: ref.name, returned)
    layers = {k: node for k, node in reader.layers.items() if reader.runs[k] == 1}
    graph = builder.graph(output.name, layers, returns)
    coarser = {name: x.compute_dtype for name, x in names.items() if x.weights and x.compute_dtype != x.variable_dtype}
    return replace(graph, coarser=coarser)


def _ends(choose: Callable[[Any], Any], whole: bool, returned: Any) -> tuple[Any, Any]:
    """The tensor that counts, and with `whole` the nesting of all; what is no tensor is left out."""
    chosen = choose(returned)
    if not whole:
        return chosen, None
    return chosen, tensors_of(returned, lambda value: value if isinstance(value, keras.KerasTensor) else None)


@contextmanager
def _restored(layers: Sequence[Any]) -> Iterator[None]:
    """Forget, afterwards, that layers were called on symbols: a layer that ran twice has no single `output`."""
    operations = [o for layer in layers for o in (layer, *getattr(layer, "operations", ()))]
    lists = [nodes for o in operations for nodes in (o._inbound_nodes, o._outbound_nodes)]
    lengths = [len(nodes) for nodes in lists]
    try:
        yield
    finally:
        for nodes, length in zip(lists, lengths, strict=True):
            del nodes[length:]


class _Reader:
    """Walks through what the `call` of a model or of a composite layer does, operation by operation."""

    def __init__(self, model: Any, builder: Builder, names: Mapping[int, str], dtype: str) -> None:
        self.model = model
        self.builder = builder
        self.names = names
        self.dtype = dtype
        self.layers: dict[str, str] = {}
        self.runs: dict[str, int] = {}

    def opened(self, layer: Any, args: Any, kwargs: Any, choose: Callable[[Any], Any] = lambda outputs: outputs) -> Any:
        """What a model or a layer made of others returns for these arguments, or what `choose` makes of that."""
        symbols: list[Any] = []
        given: list[Ref] = []

        def symbol(value: Any) -> Any:
            if not isinstance(value, Ref):
                return value
            given.append(value)
            symbols.append(keras.KerasTensor(value.shape, dtype=self.dtype))
            return symbols[-1]

        args, kwargs = keras.tree.map_structure(symbol, (args, dict(kwargs)))
        if "training" in inspect.signature(layer.call).parameters:
            kwargs["training"] = False
        try:
            with warnings.catch_warnings():
                # Of a model made with a list of one input and called with that input, as Keras itself allows without a word.
                warnings.filterwarnings("ignore", "The structure of `inputs` doesn't match", UserWarning)
                outputs = choose(layer.call(*args, **kwargs))
            ends = [value for value in keras.tree.flatten(outputs) if value is not None]
            strange = next((value for value in ends if not isinstance(value, keras.KerasTensor)), None)
            if strange is not None:
                raise Unsupported(
                    f"layer {layer.name!r} ({type(layer).__name__}) returns {type(strange).__name__}, which is no tensor"
                )
            traced = keras.Function(symbols, ends)
        except CrossXAIError:
            raise
        except Exception as error:  # whatever the model's own code says when its inputs are symbols
            raise Unsupported(
                f"layer {layer.name!r} ({type(layer).__name__}) cannot be traced ({first_line(error)}): "
                "write its call with Keras layers and keras.ops only, or the model as keras.Model(inputs, outputs)"
            ) from error
        values = {id(s): ref for s, ref in zip(symbols, given, strict=True)}
        for depth in sorted(traced._nodes_by_depth, reverse=True):
            for node in traced._nodes_by_depth[depth]:
                if not node.is_input:
                    self._read(node, values, layer)
        return keras.tree.map_structure(lambda v: v if v is None else values[id(v)], outputs)

    def _inside(self, layer: Any, label: str, args: Any, kwargs: Any) -> Any:
        changed = _changed(layer)
        try:
            return self.opened(layer, args, kwargs)
        except Unsupported as error:
            if changed is None:
                raise
            raise untranslated(label, type(layer).__name__, f"it overrides {changed}, and {error}") from error

    def _read(self, node: Any, values: dict[int, Ref], around: Any) -> None:
        operation, arguments = node.operation, node.arguments
        args, kwargs = keras.tree.map_structure(
            lambda v: values[id(v)] if isinstance(v, keras.KerasTensor) else v, (arguments.args, dict(arguments.kwargs))
        )
        of_layer = isinstance(operation, keras.layers.Layer)
        kind = type(operation).__name__
        label = self.names.get(id(operation), operation.name) if of_layer else around.name
        if kwargs.pop("training", None):
            raise untranslated(label, kind, "it is called with training=True")
        if of_layer and getattr(operation, "quantization_mode", None):
            raise untranslated(label, kind, f"it is quantised ({operation.quantization_mode})")
        kwargs = {k: v for k, v in kwargs.items() if v is not None}  # masks and the like that are not given
        handler = _handler(operation)
        if handler is not None:
            name = (
                label if of_layer else f"{around.name}.{operation.name}" if around is not self.model else operation.name
            )
            shapes = [tuple(tensor.shape) for tensor in node.output_tensors]
            call = Call(self.builder, name, label, kind, shapes[0] if len(shapes) == 1 else tuple(shapes))
            try:
                value = handler(call, operation, *args, **kwargs)
            except TypeError as error:
                raise untranslated(label, kind, first_line(error)) from error
        elif of_layer and _is_open(operation):
            value = self._inside(operation, label, args, kwargs)
        else:
            raise untranslated(label, kind)
        results = [v for v in keras.tree.flatten(value) if v is not None]
        for i, tensor in enumerate(node.output_tensors):
            values[id(tensor)] = results[i] if len(results) > 1 else results[0]
        name = self.names.get(id(operation), "")
        if name:
            self.runs[name] = self.runs.get(name, 0) + 1
            if isinstance(value, Ref):
                self.layers[name] = value.name


def _is_open(layer: Any) -> bool:
    """Whether what its `call` does is read: of all layers without a translation but those that loop or draw."""
    return isinstance(layer, keras.Model) or not isinstance(layer, keras.layers.RNN)


def _handler(operation: Any) -> Any:
    """The translation of a layer or of one of keras.ops, unless a subclass computes something else."""
    own = rules.reader(operation)
    if own is not None:
        return own
    if not isinstance(operation, keras.layers.Layer):
        return OPERATIONS.get(type(operation).__name__) if type(operation).__module__.startswith("keras.") else None
    if is_stochastic_depth(operation):
        return stochastic_depth
    known = _known(operation)
    return LAYERS[known] if known is not None and _changed(operation) is None else None


def _known(layer: Any) -> Any:
    return next((kind for kind in type(layer).__mro__ if kind in LAYERS), None)


def _changed(layer: Any) -> str | None:
    """ "call of Conv2D" of a layer that overrides a method of a known one, so that it is not that layer."""
    known = _known(layer)
    name = None if known is None else overridden(layer, known, HARMLESS)
    return None if name is None else f"{name} of {known.__name__}"
