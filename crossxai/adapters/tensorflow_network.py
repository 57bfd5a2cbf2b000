"""A Keras model that is run: scores, gradients, and what is wrong with it in words."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from crossxai.adapters import tensorflow_layers
from crossxai.adapters.checks import MeanSd, check_inputs, model_failed, original_layers
from crossxai.adapters.describing import Declared
from crossxai.adapters.returned import leaves
from crossxai.adapters.tensorflow_backend import KerasBackend, weighed
from crossxai.adapters.tensorflow_calling import DataFormat, Passage, named, symbols
from crossxai.adapters.tensorflow_layers import to_array
from crossxai.adapters.tensorflow_tracing import Traces
from crossxai.attention import Streams
from crossxai.errors import CrossXAIError, InvalidInput, OutOfMemory, UnknownName
from crossxai.model import Array, Cotangent, Inputs, Modality
from crossxai.outputs import Outputs
from crossxai.process import foreign


class KerasNetwork(Declared):
    """What `KerasModel` runs its model by."""

    framework = "Keras on TensorFlow"
    tensor_library = "tensorflow"

    def __init__(
        self,
        model: Any,
        modalities: tuple[Modality, ...],
        *,
        standardise: Mapping[str, MeanSd] | None = None,
        output_axes: tuple[str, ...] = ("class",),
        output: str | int | None = None,
        data_format: DataFormat | None = None,
        layer_axes: Mapping[str, tuple[str, ...]] | None = None,
        streams: Streams | None = None,
        outputs: Outputs | None = None,
        name: str = "keras",
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise InvalidInput(
                f"Keras runs on {keras.backend.backend()}, KerasModel needs TensorFlow: set KERAS_BACKEND=tensorflow"
            )
        if not isinstance(model, keras.Model):
            raise InvalidInput(f"KerasModel takes a keras.Model, got {type(model).__name__}")
        super().__init__(name, modalities, output_axes, outputs, output, standardise, streams, layer_axes)
        self.model = model
        self._passage = Passage(self.modalities, self._pairs, output_axes, output, data_format, name)
        if symbols(model) is not None:  # names that do not match are refused at once
            self._passage.arranged(model, self.modalities)
        for layer in self.layer_axes if model.built else ():
            self.axes_of(layer)  # a misspelt one is refused at once
        # A functional model reports the global policy, whatever its layers compute in: the weights know, if not quantised.
        floating = (tf.as_dtype(w.dtype) for w in model.weights)
        own = (tf.as_dtype(model.compute_dtype), tf.float32)
        self.dtype = next(dtype for dtype in (*floating, *own) if dtype.is_floating)
        self._traces = Traces(model)
        self._cotangent: Cotangent | None = None
        self._failure: Exception | None = None

    @property
    def network(self) -> Any:
        """The Keras model."""
        return self.model

    @property
    def size(self) -> str:
        """Number and dtype of the weights; only the dtype of a subclassed model before its first call."""
        count = f"{self.model.count_params():,} weights, " if self.model.built else ""
        return f"{count}{self.dtype.name}"

    def predict(self, inputs: Inputs) -> Array:
        """Outputs (n, *out), class axis last. Raises `ModelFailed` with what the model's own code raised, as every verb does."""
        return to_array(self._with(None, "predict", self._run, inputs))

    def device_backend(self) -> KerasBackend | None:
        """Where copies are masked and scored beside the model; None on a CPU, where NumPy is faster."""
        device = self.tensor_device()
        return None if device is None else KerasBackend(device, self.predict_there, self.dtype == tf.float64)

    def predict_there(self, inputs: list[Any]) -> Any:
        """Outputs as of `predict`, of tensors on the device, where they stay."""
        with self._guarded(inputs):
            return self._traces.run("predict", self._run, [tf.cast(values, self.dtype) for values in inputs])

    def tensor_device(self) -> str | None:
        """The GPU on which the weights lie; None on a CPU."""
        device = str(self.model.weights[0].value.device) if self.model.weights else ""
        return device if "GPU" in device else None

    def scores_there(self, inputs: list[Any], weights: Any, link: str) -> Any:
        """sum(link(outputs) · weights) (m,), of channels-last tensors on the device, where it stays."""
        return weighed(self.predict_there(inputs), weights, link)

    def gradients_there(self, inputs: list[Any], weights: Any, link: str) -> tuple[Any, list[Any]]:
        """The same, and its gradient at each input, from one forward and one backward pass; zeros where none arrives."""

        def both(*tensors: Any) -> Any:
            *own, given = tensors
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(own)
                scores = weighed(self._run(*own), given, link)
            return scores, gradients_of(tape, scores, own, None)

        with self._guarded(inputs):
            own = [tf.cast(values, self.dtype) for values in (*inputs, weights)]
            return self._traces.run(f"gradients of {link}", both, own)  # type: ignore[no-any-return]

    def other_outputs(self, inputs: Inputs) -> dict[str, Array]:
        """What the model returns beside the tensor that counts: name or position → array, in its own axes."""
        with self._guarded(inputs):
            returned = self._passage.returned(self.model, *self._tensors(inputs))
            counts = self._passage.chosen(returned)
            return {path: to_array(v) for path, v in leaves(returned) if tf.is_tensor(v) and v is not counts}

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        """(outputs, gradient at each input), from one forward and one backward pass; zeros where the graph does not reach."""

        def both(*tensors: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(tensors)
                outputs = self._run(*tensors)
            return outputs, gradients_of(tape, outputs, tensors, self._weighing(outputs))

        outputs, gradients = self._with(cotangent, "vjp", both, inputs)
        return to_array(outputs), tuple(map(to_array, gradients))

    def fingerprint(self) -> int:
        """Changes when anything of the model but the values of its weights does."""
        with self._lock:
            return self._traces.version()

    @property
    def computes(self) -> str:
        """The narrowest floating dtype that a layer computes in, such as "float16" under the policy mixed_float16."""
        dtypes = {tf.as_dtype(d) for d in (self.dtype, *(x.compute_dtype for x in self._named().values())) if d}
        return str(min((d for d in dtypes if d.is_floating), key=lambda d: (d.size, d.name != "bfloat16")).name)

    def hints(self) -> Mapping[str, Any]:
        """What the model shows of itself without a pass; see `tensorflow_layers`."""
        return tensorflow_layers.hints(self._named().values())

    def axes_of(self, layer: str) -> tuple[str, ...] | None:
        """What the axes of a layer's output after the sample axis mean, such as ("y", "x", "channel"); None if nothing tells:
        neither `layer_axes` nor the functional graph nor the layer's own definition (`data_format`)."""
        layers = self._named()
        for name in (*self.layer_axes, layer):
            if name not in layers:
                raise UnknownName(f"layer of model {self.name!r}", name, layers)
        if layer in self.layer_axes:
            return tuple(self.layer_axes[layer])
        carried = self._traces.cached("axes", lambda: self._passage.axes(self.model))
        tensors = [t for node in layers[layer]._inbound_nodes for t in node.output_tensors]
        known = {carried[id(t)] for t in tensors if id(t) in carried}
        return known.pop() if len(known) == 1 else tensorflow_layers.defined_axes(layers[layer])

    def _build(self, inputs: Inputs) -> None:
        """A subclassed model has no layers before its first call."""
        if not self.model.built:
            with self._guarded(inputs):
                self._run(*(tensor[:1] for tensor in self._tensors(inputs)))

    def _named(self) -> dict[str, Any]:
        """The layers by every name that the layer verbs know them by."""
        own = named(self.model)
        return own | {name: own[layer] for name, layer in original_layers(self.model).items() if layer in own}

    def _tensors(self, inputs: Inputs) -> list[Any]:
        check_inputs(inputs, self.modalities, self.name)
        return [tf.constant(values, dtype=self.dtype) for values in inputs]

    def _run(self, *tensors: Any) -> Any:
        return self._passage.outputs(self.model, *tensors)

    def _weighing(self, outputs: Any) -> Any:
        """The cotangent of these outputs, computed in Python in the middle of the graph, so that one pass is enough."""
        model = weakref.proxy(self)  # TensorFlow keeps the function as long as the process lives
        weights = tf.numpy_function(lambda y: model._cotangent_of(y), [outputs], outputs.dtype, stateful=True)
        return tf.ensure_shape(weights, outputs.shape)

    def _cotangent_of(self, outputs: Array) -> Array:
        assert self._cotangent is not None
        raised: tuple[type[Exception], ...] = (CrossXAIError, *foreign())
        try:
            return np.asarray(self._cotangent(outputs), dtype=outputs.dtype)
        except raised as error:
            self._failure = error
            raise

    def _with(
        self,
        cotangent: Cotangent | None,
        kind: str,
        function: Callable[..., Any],
        inputs: Inputs,
        others: Sequence[Array] = (),
    ) -> Any:
        """What a function gives, which may call `_weighing` with this cotangent; what the cotangent raises keeps its type."""
        tensors = self._tensors(inputs) + [tf.constant(values, dtype=self.dtype) for values in others]
        with self._guarded(inputs):
            self._cotangent, self._failure = cotangent, None
            try:
                return self._traces.run(kind, function, tensors)
            finally:
                self._cotangent = None

    @contextmanager
    def _guarded(self, inputs: Sequence[Any]) -> Iterator[None]:
        """One request at a time; what the model's code raises becomes `ModelFailed` or `OutOfMemory`."""
        with self._lock:
            self._failure = None
            try:
                yield
            except CrossXAIError:
                raise
            except tf.errors.ResourceExhaustedError as error:
                raise OutOfMemory(str(error)) from error
            except foreign() as error:
                if self._failure is not None:
                    raise self._failure from error
                hint = ""
                if len(self.modalities) > 1 and symbols(self.model) is None:
                    hint = "a subclassed model that takes a dict is called with one once it has been built with one"
                raise model_failed(error, self.name, inputs, hint) from error


def gradients_of(tape: Any, outputs: Any, sources: Any, weights: Any) -> list[Any]:
    """Dense gradients, zeros where the graph does not reach."""
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(outputs, list(sources), weights, unconnected_gradients=zero)
    return [tf.convert_to_tensor(gradient) for gradient in gradients]
