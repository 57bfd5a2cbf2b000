"""From raw, channels-last tensors into a Keras model and out of it again: what KerasModel declares about its ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from crossxai.adapters import tensorflow_axes
from crossxai.adapters.checks import MeanSd, as_rows, constants, one_output
from crossxai.adapters.tensorflow_inputs import DataFormat, arranged, channels_first, entries
from crossxai.adapters.tensorflow_tracing import NeedsSamples
from crossxai.model import Modality


def named(model: Any) -> dict[str, Any]:
    """Name → layer, nested ones included; the path of those whose name is taken."""
    found: dict[str, Any] = {}
    for layer in model._flatten_layers(include_self=False):
        name = layer.name if layer.name not in found else layer.path.replace("/", ".")
        while name in found:
            name += "_"
        found[name] = layer
    return found


def original_layers(model: Any) -> Mapping[str, str]:
    """Of a twin: layer of the network that it was made from → its own layer that gives the same; empty for other models."""
    return getattr(model, "crossxai_layers", None) or {}


class Passage:
    """The two ends of a model: standardisation and the places of its inputs, the tensor that counts and its axes."""

    def __init__(
        self,
        modalities: tuple[Modality, ...],
        standardise: Mapping[str, MeanSd],
        output_axes: tuple[str, ...],
        output: str | int | None,
        data_format: DataFormat | None,
        name: str,
    ) -> None:
        self.modalities, self.output_axes, self.output = modalities, output_axes, output
        self.data_format, self.name = data_format, name
        self._standardise = [
            None if not mean.any() and (sd == 1).all() else (mean, sd)
            for mean, sd in constants(standardise, modalities)
        ]

    def outputs(self, model: Any, *tensors: Any) -> Any:
        """What a model answers to raw, channels-last tensors: one tensor with the declared axes, in full precision."""
        first = channels_first(model, self.modalities, self.data_format)
        given = []
        for t, pair, moved in zip(tensors, self._standardise, first, strict=True):
            value = t if pair is None else (t - tf.constant(pair[0], t.dtype)) / tf.constant(pair[1], t.dtype)
            rank = len(value.shape)
            given.append(tf.transpose(value, (0, rank - 1, *range(1, rank - 1))) if moved else value)
        args, kwargs = arranged(model, self.modalities, given, self.name)
        returned = model(*args, training=False, **kwargs)
        outputs, n = self.chosen(returned), tensors[0].shape[0]
        if n is None and len(outputs.shape) < 2 and self.output_axes == ("class",):
            raise NeedsSamples
        shape = as_rows(tuple(outputs.shape), n or 0, self.output_axes, self.name)
        outputs = outputs if tuple(outputs.shape) == shape else tf.reshape(outputs, shape)
        if len(shape) > 2 and self._class_first(model, any(first)):
            outputs = tf.transpose(outputs, (0, *range(2, len(shape)), 1))
        return outputs if outputs.dtype in (tf.float32, tf.float64) else tf.cast(outputs, tf.float32)

    def _class_first(self, model: Any, otherwise: bool) -> bool:
        """Whether maps come with their classes first: as the functional graph tells, otherwise as the images go in."""
        network = getattr(model, "_functional", None) or model
        symbolic = getattr(network, "_outputs_struct", None)
        told = None if symbolic is None else self.axes(model).get(id(self.chosen(symbolic)))
        return otherwise if told is None else told[0] == "channel"

    def chosen(self, returned: Any) -> Any:
        """The tensor, or symbolic tensor, that counts."""

        def shape(value: Any) -> tuple[int | None, ...] | None:
            if not tf.is_tensor(value) and not isinstance(value, keras.KerasTensor):
                return None
            if getattr(value.shape, "rank", 0) is None:
                raise NeedsSamples
            return tuple(value.shape)

        return one_output(returned, self.output, self.output_axes, self.name, shape)

    def axes(self, model: Any) -> dict[int, tuple[str, ...] | None]:
        """id of each symbolic tensor of a functional model → its axes; empty for a model without such a graph."""
        network = getattr(model, "_functional", None) or model
        if not hasattr(network, "_nodes_by_depth"):
            return {}
        first = channels_first(model, self.modalities, self.data_format)
        axes = [("channel", *m.axes[:-1]) if moved else m.axes for m, moved in zip(self.modalities, first, strict=True)]
        inputs = entries(model, self.modalities, self.name)
        return tensorflow_axes.along(network, {id(s): a for s, a in zip(inputs, axes, strict=True)})
