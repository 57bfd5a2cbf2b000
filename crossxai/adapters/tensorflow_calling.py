"""How a Keras model is called: from raw, channels-last arrays to its own inputs, and from what it returns to one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import keras
import tensorflow as tf

from crossxai.adapters.checks import as_rows, needed_arguments, one_output
from crossxai.adapters.tensorflow_layers import axes_along
from crossxai.adapters.tensorflow_tracing import NeedsSamples
from crossxai.errors import InvalidInput, Unsupported
from crossxai.model import Array, Modality

DataFormat = Literal["channels_last", "channels_first"]
Call = tuple[tuple[Any, ...], dict[str, Any]]


def symbols(model: Any) -> Any:
    """The structure of the symbolic inputs that a functional or sequential model was made with; None for any other."""
    return getattr(getattr(model, "_functional", None) or model, "_inputs_struct", None)


def _subclassed(model: Any, given: Mapping[str, Any]) -> Call:
    """A dict if the model has been called with one, else an argument per modality if its `call` has so many, else a list."""
    values = list(given.values())
    before = (getattr(model, "_build_shapes_dict", None) or {}).values()
    if any(isinstance(shapes, Mapping) and set(shapes) == set(given) for shapes in before):
        return (dict(given),), {}
    if len(values) == 1:
        return (values[0],), {}
    parameters = needed_arguments(type(model).call)[1:]
    if len(parameters) != len(values):
        return (values,), {}
    if set(parameters) == set(given):
        values = [given[p] for p in parameters]
    return tuple(values), {}


def _flat(structure: Any, name: str) -> None:
    if not all(isinstance(symbol, keras.KerasTensor) for symbol in structure):
        raise Unsupported(
            f"model {name!r} takes a nested structure of inputs: wrap it in a keras.Model whose inputs are a dict or a list"
        )


def _words(names: Any) -> str:
    return ", ".join(map(repr, names))


def named(model: Any) -> dict[str, Any]:
    """Name → layer, nested ones included; the path of those whose name is taken."""
    layers: dict[str, Any] = {}
    for layer in model._flatten_layers(include_self=False):
        name = layer.name if layer.name not in layers else layer.path.replace("/", ".")
        while name in layers:
            name += "_"
        layers[name] = layer
    return layers


@dataclass(frozen=True)
class Passage:
    """The two ends of a model: standardisation and the places of its inputs, the tensor that counts and its axes."""

    modalities: tuple[Modality, ...]
    pairs: Sequence[tuple[Array, Array] | None]
    output_axes: tuple[str, ...]
    output: str | int | None
    data_format: DataFormat | None
    name: str

    def __post_init__(self) -> None:
        if self.data_format not in (None, *get_args(DataFormat)):
            formats = ", ".join(get_args(DataFormat))
            raise InvalidInput(f"data_format is one of {formats}, or None; got {self.data_format!r}")

    def returned(self, model: Any, *tensors: Any) -> Any:
        """What a model returns for raw, channels-last tensors."""
        given = []
        for t, pair, moved in zip(tensors, self.pairs, self.channels_first(model), strict=True):
            value = t if pair is None else (t - tf.constant(pair[0], t.dtype)) / tf.constant(pair[1], t.dtype)
            rank = len(value.shape)
            given.append(tf.transpose(value, (0, rank - 1, *range(1, rank - 1))) if moved else value)
        args, kwargs = self.arranged(model, given)
        return model(*args, training=False, **kwargs)

    def outputs(self, model: Any, *tensors: Any) -> Any:
        """What counts of that: one tensor with the declared axes, in full precision."""
        outputs, n = self.chosen(self.returned(model, *tensors)), tensors[0].shape[0]
        if n is None and len(outputs.shape) < 2 and self.output_axes == ("class",):
            raise NeedsSamples
        shape = as_rows(tuple(outputs.shape), n or 0, self.output_axes, self.name)
        outputs = outputs if tuple(outputs.shape) == shape else tf.reshape(outputs, shape)
        if len(shape) > 2:  # maps have their classes first if the functional graph tells so, else as the images go in
            symbolic = getattr(getattr(model, "_functional", None) or model, "_outputs_struct", None)
            axes = None if symbolic is None else self.axes(model).get(id(self.chosen(symbolic)))
            if any(self.channels_first(model)) if axes is None else axes[0] == "channel":
                outputs = tf.transpose(outputs, (0, *range(2, len(shape)), 1))
        return outputs if outputs.dtype in (tf.float32, tf.float64) else tf.cast(outputs, tf.float32)

    def chosen(self, returned: Any) -> Any:
        """The tensor, or symbolic tensor, that counts."""

        def shape(value: Any) -> tuple[int | None, ...] | None:
            if not tf.is_tensor(value) and not isinstance(value, keras.KerasTensor):
                return None
            if getattr(value.shape, "rank", 0) is None:
                raise NeedsSamples
            return tuple(value.shape)

        return one_output(returned, self.output, self.output_axes, self.name, shape)

    def arranged(self, model: Any, values: Sequence[Any]) -> Call:
        """(args, kwargs) to call the model with: every value, one per modality, at the place of its modality.

        A dict is filled by name; a list or tuple in order, or by name if the names of its inputs are those of the modalities.
        Raises `InvalidInput` if names do not match.
        """
        name, names = self.name, [m.name for m in self.modalities]
        given = dict(zip(names, values, strict=True))
        structure = symbols(model)
        if structure is None:
            return _subclassed(model, given)
        if isinstance(structure, Mapping):
            if len(given) == len(structure) == 1:
                return (dict(zip(structure, values, strict=True)),), {}
            _flat(structure.values(), name)
            if set(given) != set(structure):
                raise InvalidInput(
                    f"model {name!r} takes a dict with the inputs {_words(structure)}, the modalities are {_words(given)}: give "
                    "each modality the name of its input"
                )
            return ({i: given[i] for i in structure},), {}
        if not isinstance(structure, list | tuple):
            structure = [structure]
            if len(given) == 1:
                return (values[0],), {}
        _flat(structure, name)
        inputs = [str(symbol.name) for symbol in structure]
        if len(inputs) != len(names):
            raise InvalidInput(
                f"model {name!r} has {len(inputs)} inputs ({', '.join(inputs)}), the modalities are {_words(names)}"
            )
        if sorted(inputs) == sorted(names):
            values = [given[i] for i in inputs]
        elif any(i in given and i != n for i, n in zip(inputs, names, strict=True)):
            raise InvalidInput(
                f"model {name!r} has inputs named {_words(inputs)} and the modalities are {_words(names)}: some are the same at "
                "another place, so order and names contradict each other; give the modalities the names of the inputs"
            )
        return ((tuple if isinstance(structure, tuple) else list)(values),), {}

    def channels_first(self, model: Any) -> tuple[bool, ...]:
        """Whether the model wants each modality's channels first: as declared, else as its inputs and then its layers declare."""
        if self.data_format is not None:
            return tuple(m.spatial and self.data_format == "channels_first" for m in self.modalities)
        inputs = [None] * len(self.modalities) if symbols(model) is None else self.entries(model)
        formats = (getattr(layer, "data_format", None) for layer in model._flatten_layers(include_self=False))
        otherwise = next((f for f in formats if f), None) == "channels_first"
        first = []
        for modality, symbol in zip(self.modalities, inputs, strict=True):
            shape = tuple(symbol.shape[1:]) if isinstance(symbol, keras.KerasTensor) else ()
            n = len(modality.features)
            told = len(shape) == len(modality.axes) and (shape[0] == n) != (shape[-1] == n)
            first.append(modality.spatial and (shape[0] == n if told else otherwise))
        return tuple(first)

    def entries(self, model: Any) -> list[Any]:
        """The symbolic input of each modality, of a functional or sequential model."""
        (placed,), _ = self.arranged(model, range(len(self.modalities)))
        structure = symbols(model)
        if isinstance(structure, Mapping):
            pairs = [(placed[key], symbol) for key, symbol in structure.items()]
        else:
            listed = structure if isinstance(structure, list | tuple) else [structure]
            pairs = list(zip(placed if isinstance(placed, list | tuple) else [placed], listed, strict=True))
        return [symbol for _, symbol in sorted(pairs, key=lambda pair: pair[0])]

    def axes(self, model: Any) -> dict[int, tuple[str, ...] | None]:
        """id of each symbolic tensor of a functional model → its axes; empty for a model without such a graph."""
        network = getattr(model, "_functional", None) or model
        if not hasattr(network, "_nodes_by_depth"):
            return {}
        first = self.channels_first(model)
        axes = [("channel", *m.axes[:-1]) if moved else m.axes for m, moved in zip(self.modalities, first, strict=True)]
        inputs = self.entries(model)
        return axes_along(network, {id(s): a for s, a in zip(inputs, axes, strict=True)})
