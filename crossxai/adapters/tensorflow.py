"""Keras 3 models on TensorFlow behind the protocols of `crossxai.model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from crossxai.adapters import tensorflow_copies
from crossxai.adapters.checks import MeanSd, original_layers
from crossxai.adapters.retraining import Step, rate_of
from crossxai.adapters.tensorflow_layered import LayeredNetwork
from crossxai.adapters.tensorflow_tracing import Traces
from crossxai.errors import Unsupported
from crossxai.model import Inputs
from crossxai.porting.certificate import require_same_outputs
from crossxai.porting.graph import fold_batch_norms
from crossxai.porting.to_keras import build
from crossxai.process import streams_kept


class KerasModel(LayeredNetwork):
    """A functional, sequential or subclassed Keras model, taking one channels-last tensor per modality.

    Always runs with training=False, in graph mode where the model's code allows it, one trace per input shape. The model may
    change between calls.

    Parameters
    ----------
    model : keras.Model, on the TensorFlow backend
    modalities : tuple of Modality
        Several go to the inputs of their names, or into a list (a subclassed model's arguments) in order.
    standardise : mapping of str to (mean, sd), optional, by modality: subtracted and divided by, so that maps stay in raw values
    output_axes : tuple of str, the axes of the outputs after the sample axis, ("class",) or ("y", "x", "class")
    output : str or int, optional
        Name or position of the tensor that counts, where the model returns several; the only one with these axes if not given.
    data_format : {"channels_last", "channels_first"}, optional, how it takes images; told by its inputs and layers if not given
    layer_axes : mapping of str to tuple of str, optional
        Meaning of the axes of layers' outputs after the sample axis, where a layer cannot tell.
    streams : Streams, optional, a transformer's tokens
    outputs : {"logits", "probabilities", "log_probabilities", "values"}, optional, what they are; measured if not given
    name : str, the name in messages, files and reports

    Raises
    ------
    InvalidInput: if Keras runs on another backend, or names and declarations do not fit the model
    """

    def exact(self) -> KerasModel | None:
        """This model as it is now, in float64, to measure with and to throw away; None where there is none."""
        with self._lock:
            model = tensorflow_copies.float64_copy(self.model, self._traces.cached)
        if model is None:
            return None
        model.crossxai_layers = original_layers(self.model)  # the copy's layers have the same names
        rounded = {
            name: tuple(
                tf.cast(tf.cast(tf.constant(v, tf.float64), self.dtype), tf.float64).numpy().tolist() for v in pair
            )
            for name, pair in self.standardise.items()
        }
        twin = self._around(model, standardise=rounded)  # with the constants that this model computes with
        twin._traces = Traces(model, eager=True)  # a few passes are sooner run than traced
        return twin

    def randomised(self, inputs: Inputs, depth: int, seed: int, alone: bool = False) -> KerasModel:
        """A copy with the weights of the first `depth` layers of `weighted` drawn anew, or of the last of them alone.

        Running statistics are kept.
        """
        chosen = self._first_weights(inputs, depth, alone)
        one = self._tensors(tuple(v[:1] for v in inputs))
        with self._guarded(inputs):
            twin = tensorflow_copies.copied(self.model, lambda model: self._passage.outputs(model, *one), self.name)
            tensorflow_copies.redraw(twin, self.model, chosen, seed)
        return self._around(twin, layer_axes=self.layer_axes)

    def _calibrate(self, inputs: Inputs) -> None:
        tensors = self._tensors(inputs)
        with self._guarded(inputs):
            tensorflow_copies.calibrate(self._named().values(), lambda: self._run(*tensors))

    def _trainer(self, inputs: Inputs) -> Step:
        weights = [w for layer in self._weights(inputs).values() for w in tensorflow_copies.owned(layer)]
        optimiser = keras.optimizers.Adam(rate_of(map(np.asarray, weights)))
        optimiser.build(weights)
        move = tf.function(lambda gradients: optimiser.apply(gradients, weights), autograph=False)
        slopes = self._slopes(weights)
        return lambda part, cotangent: move(self._with(cotangent, "train", slopes, part))

    def folded(self, inputs: Inputs) -> KerasModel:
        """A copy for scoring, batch norms folded and standardisation inside; see `crossxai.model.Foldable`."""
        self._build(inputs)
        if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in self._named().values()):
            raise Unsupported(f"model {self.name!r} has no batch norm, so there is nothing to fold")
        graph = fold_batch_norms(self.graph(inputs))
        with streams_kept(), self._guarded(inputs):  # layers draw weights when they are made, before they get these
            network, _ = build(graph, self.dtype.name)
        faster = KerasModel(
            network, self.modalities, output_axes=self.output_axes, outputs=self.outputs, name=self.name
        )
        require_same_outputs(self, faster, inputs)
        return faster

    def _around(
        self,
        model: Any,
        layer_axes: Mapping[str, tuple[str, ...]] | None = None,
        standardise: Mapping[str, MeanSd] | None = None,
    ) -> KerasModel:
        """The same declarations about a copy of the model, but for those of the constants that are given."""
        declared = {**self._declarations, **({} if standardise is None else {"standardise": standardise})}
        return KerasModel(
            model, self.modalities, data_format=self._passage.data_format, layer_axes=layer_axes, **declared
        )
