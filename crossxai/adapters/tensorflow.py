"""Keras 3 models on TensorFlow behind the protocols of `crossxai.model`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from crossxai.adapters import tensorflow_attention, tensorflow_ending, tensorflow_weights
from crossxai.attention import AttentionMap, Streams, declared
from crossxai.errors import CrossXAIError, InvalidInput, OutOfMemory, UnknownName, Unsupported
from crossxai.model import Array, Cotangent, Inputs, Modality
from crossxai.model_checks import MeanSd, check_inputs, check_modalities, check_outputs, constants
from crossxai.outputs import Outputs, check_declared
from crossxai.porting.folding import check, folded
from crossxai.porting.to_keras import build
from crossxai.process import streams_kept
from crossxai.redrawing import check_depth

if TYPE_CHECKING:
    from crossxai.graph import Graph


class KerasModel:
    """A functional, sequential or subclassed Keras model, taking one channels-last tensor per modality (a list if several).

    standardise: (mean, sd) per modality name, applied on the model's side. output_axes: the axes after the sample axis,
    ("class",) or ("y", "x", "class"). streams: a transformer's tokens. Always runs with training=False, in graph mode, one
    trace per input shape. Weights may change between calls; the architecture may not.
    """

    def __init__(
        self,
        model: Any,
        modalities: tuple[Modality, ...],
        *,
        standardise: Mapping[str, MeanSd] | None = None,
        output_axes: tuple[str, ...] = ("class",),
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
        self.name = name
        self.modalities = check_modalities(modalities)
        self.model = model
        self.output_axes = output_axes
        self.outputs = check_declared(outputs)
        self.streams = streams if streams is None else streams.check(self.modalities)
        # A functional model reports the global policy, whatever its layers compute in: the weights know.
        self.dtype = tf.as_dtype(next((w.dtype for w in model.weights), model.compute_dtype))
        self._constants = dict(standardise or {})
        self._standardise = [
            None if not mean.any() and (sd == 1).all() else (mean, sd)
            for mean, sd in constants(standardise, self.modalities)
        ]
        self._traced: dict[tuple[str, tuple[Any, ...]], Any] = {}
        self._lock = threading.RLock()  # hooks belong to the model, so one request at a time
        self._cotangent: Cotangent | None = None
        self._failure: CrossXAIError | None = None

    @property
    def standardise(self) -> dict[str, MeanSd]:
        """(mean, sd) by modality, as declared."""
        return dict(self._constants)

    def predict(self, inputs: Inputs) -> Array:
        """Outputs (n, *out), class axis last."""
        tensors = self._tensors(inputs)
        with self._lock, _memory():
            return np.asarray(self._graph("predict", self._run, tensors)(*tensors))

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        """(outputs, gradient at each input), from one forward and one backward pass."""

        def both(*tensors: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(tensors)
                outputs = self._run(*tensors)
            weights = self._weights(outputs)
            return outputs, tape.gradient(outputs, tensors, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        outputs, gradients = self._with(cotangent, "vjp", both, inputs)
        return outputs.numpy(), tuple(g.numpy() for g in gradients)

    def activations(self, inputs: Inputs) -> dict[str, Array]:
        """Of layers that run exactly once per pass and give a tensor: name → activation, channels last."""
        found: dict[str, Array] = {}
        runs: dict[str, int] = {}

        def record(name: str, output: Any) -> Any:
            runs[name] = runs.get(name, 0) + 1
            if tf.is_tensor(output) and len(output.shape) >= 2:
                found[name] = output.numpy()
            return output

        self._build(inputs)
        with self._lock, self._hooked({name: partial(record, name) for name in self._named()}):
            self._run(*self._tensors(inputs))
        return {name: activation for name, activation in found.items() if runs[name] == 1}

    def layer_vjp(self, inputs: Inputs, cotangent: Cotangent, layer: str) -> tuple[Array, Array, Array]:
        """(outputs, the layer's activation, gradient at it), channels last."""
        self._check_layer(layer, inputs)

        def both(*tensors: Any) -> Any:
            with (
                tf.GradientTape(watch_accessed_variables=False) as tape,
                self._recording(layer, tape.watch) as seen,
            ):
                outputs = self._run(*tensors)
            weights = self._weights(outputs)
            zero = tf.UnconnectedGradients.ZERO
            return outputs, seen[0], tape.gradient(outputs, seen[0], weights, unconnected_gradients=zero)

        outputs, activation, gradient = self._with(cotangent, f"vjp at {layer}", both, inputs)
        return outputs.numpy(), activation.numpy(), gradient.numpy()

    def read(self, inputs: Inputs, layer: str) -> tuple[Array, Array]:
        """(outputs, the layer's activation), channels last, from one forward pass."""
        self._check_layer(layer, inputs)

        def both(*tensors: Any) -> Any:
            with self._recording(layer) as seen:
                outputs = self._run(*tensors)
            return outputs, seen[0]

        tensors = self._tensors(inputs)
        with self._lock, _memory():
            outputs, activation = self._graph(f"read {layer}", both, tensors)(*tensors)
        return outputs.numpy(), activation.numpy()

    def replace(self, inputs: Inputs, layer: str, activation: Array) -> Array:
        """Outputs when the layer's output is replaced by `activation`, channels last."""
        self._check_layer(layer, inputs)

        def swapped(given: Any, *tensors: Any) -> Any:
            with self._hooked({layer: lambda _output: given}):
                return self._run(*tensors)

        tensors = [tf.constant(activation, dtype=self.dtype), *self._tensors(inputs)]
        with self._lock, _memory():
            return np.asarray(self._graph(f"replace {layer}", swapped, tensors)(*tensors))

    def ending(self, inputs: Inputs) -> str | None:
        """The last operation of a forward pass: see `tensorflow_ending`."""
        tensors = self._tensors(inputs)
        with self._lock, _memory():
            return tensorflow_ending.ending(self._graph("predict", self._run, tensors).outputs[0])

    def graph(self, inputs: Inputs) -> Graph:
        """The network for inputs of these sizes, standardisation included; see `crossxai.graph`."""
        from crossxai.porting.from_keras import graph_of

        self._build(inputs)
        shapes = [tuple(values.shape[1:]) for values in inputs]
        check_inputs(inputs, self.modalities, self.name)
        with self._lock:
            return graph_of(self.model, shapes, self.modalities, self._named(), self._constants, self.dtype.name)

    def attention_vjp(self, inputs: Inputs, cotangent: Cotangent | None) -> tuple[Array, tuple[AttentionMap, ...]]:
        """(outputs, attention probabilities layer by layer and the gradient at them), one backward pass if asked for."""
        declared(self.streams, self.name)
        self._build(inputs)
        kind, weigh = ("attention", None) if cotangent is None else ("attention vjp", self._weights)
        both = tensorflow_attention.traced(self._run, weigh, self._named, self.name)
        outputs, names, values, gradients = self._with(cotangent, kind, both, inputs)
        return outputs.numpy(), tensorflow_attention.maps(names, values, gradients, len(inputs[0]), self.name)

    def weighted(self, inputs: Inputs) -> tuple[str, ...]:
        """The layers that have trainable weights and run, frozen ones too, the one nearest to the output first."""
        return tuple(self._weighted(inputs))

    def randomised(self, inputs: Inputs, depth: int, seed: int) -> KerasModel:
        """A copy with the weights of the first `depth` layers of `weighted` drawn anew; running statistics are kept."""
        layers = self._weighted(inputs)
        check_depth(depth, tuple(layers), self.name)
        raw = self._standardised(*self._tensors(tuple(v[:1] for v in inputs)))
        with self._lock:
            twin = tensorflow_weights.copied(self.model, lambda model: model(raw, training=False), self.name)
            tensorflow_weights.redraw(twin, self.model, {n: layers[n] for n in list(layers)[:depth]}, seed)
        options: dict[str, Any] = {
            "output_axes": self.output_axes,
            "streams": self.streams,
            "outputs": self.outputs,
            "name": self.name,
        }
        return KerasModel(twin, self.modalities, standardise=self._constants, **options)

    def folded(self, inputs: Inputs) -> KerasModel:
        """A copy for scoring, batch norms folded and standardisation inside; see `crossxai.model.Foldable`."""
        self._build(inputs)
        if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in self._named().values()):
            raise Unsupported(f"model {self.name!r} has no batch norm, so there is nothing to fold")
        graph = folded(self.graph(inputs))
        with streams_kept(), _memory():  # layers draw weights when they are made, before they get these
            network, _ = build(graph, self.dtype.name)
        faster = KerasModel(
            network, self.modalities, output_axes=self.output_axes, outputs=self.outputs, name=self.name
        )
        check(self.predict(inputs), faster.predict(inputs), self.name)
        return faster

    def _weighted(self, inputs: Inputs) -> dict[str, Any]:
        self._build(inputs)
        one = self._tensors(tuple(v[:1] for v in inputs))
        with self._lock:
            return tensorflow_weights.layers(self.model, self._named(), self._hooked, lambda: self._run(*one))

    def _build(self, inputs: Inputs) -> None:
        """A subclassed model has no layers before its first call."""
        if not self.model.built:
            self._run(*(tensor[:1] for tensor in self._tensors(inputs)))

    def _named(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for layer in self.model._flatten_layers(include_self=False):
            name = layer.name if layer.name not in found else layer.path.replace("/", ".")
            found[name] = layer
        return found

    def _check_layer(self, layer: str, inputs: Inputs) -> None:
        self._build(inputs)
        if layer not in self._named():
            raise UnknownName(f"layer of model {self.name!r}", layer, self._named())

    def _tensors(self, inputs: Inputs) -> list[Any]:
        check_inputs(inputs, self.modalities, self.name)
        return [tf.constant(values, dtype=self.dtype) for values in inputs]

    def _standardised(self, *tensors: Any) -> Any:
        """What the Keras model itself is given."""
        raw = [
            t if pair is None else (t - tf.constant(pair[0], t.dtype)) / tf.constant(pair[1], t.dtype)
            for t, pair in zip(tensors, self._standardise, strict=True)
        ]
        return raw[0] if len(raw) == 1 else raw

    def _run(self, *tensors: Any) -> Any:
        outputs = self.model(self._standardised(*tensors), training=False)
        if not tf.is_tensor(outputs):
            raise Unsupported(
                f"model {self.name!r} returns {type(outputs).__name__}, not one tensor: wrap it in a model that does"
            )
        check_outputs(tuple(outputs.shape), self.output_axes, self.name)
        return outputs if outputs.dtype in (tf.float32, tf.float64) else tf.cast(outputs, tf.float32)

    def _graph(self, kind: str, function: Callable[..., Any], tensors: list[Any]) -> Any:
        """The traced function for this kind of request and these shapes; the sample axis stays open."""
        shapes = tuple(tuple(t.shape[1:]) for t in tensors)
        if (kind, shapes) not in self._traced:
            # autograph would rewrite the hooks' Python control flow, which runs once, while tracing.
            traced = tf.function(function, autograph=False)
            specs = [tf.TensorSpec((None, *shape), self.dtype) for shape in shapes]
            self._traced[kind, shapes] = traced.get_concrete_function(*specs)
        return self._traced[kind, shapes]

    def _weights(self, outputs: Any) -> Any:
        """The cotangent of these outputs, computed in Python in the middle of the graph, so that one pass is enough."""
        weights = tf.numpy_function(self._ask, [outputs], outputs.dtype, stateful=True)
        return tf.ensure_shape(weights, outputs.shape)

    def _ask(self, outputs: Array) -> Array:
        assert self._cotangent is not None
        try:
            return np.asarray(self._cotangent(outputs), dtype=outputs.dtype)
        except CrossXAIError as error:
            self._failure = error
            raise

    def _with(self, cotangent: Cotangent | None, kind: str, function: Callable[..., Any], inputs: Inputs) -> Any:
        """Run a function that asks `_weights`, with this cotangent; what the cotangent raises keeps its type."""
        tensors = self._tensors(inputs)
        with self._lock, _memory():
            graph = self._graph(kind, function, tensors)
            self._cotangent, self._failure = cotangent, None
            try:
                return graph(*tensors)
            except tf.errors.OpError as error:
                if self._failure is not None:
                    raise self._failure from error
                raise
            finally:
                self._cotangent = None

    @contextmanager
    def _recording(self, layer: str, watch: Callable[[Any], Any] = lambda _output: None) -> Iterator[list[Any]]:
        """The list that the layer's output is put into, exactly once; `watch` sees it before the next layer does."""
        seen: list[Any] = []

        def record(output: Any) -> Any:
            if seen:
                raise Unsupported(f"layer {layer!r} of model {self.name!r} runs more than once in a pass: name another")
            if not tf.is_tensor(output):
                raise Unsupported(f"layer {layer!r} of model {self.name!r} gives {type(output).__name__}, not a tensor")
            seen.append(tf.identity(output))
            watch(seen[0])
            return seen[0]

        with self._hooked({layer: record}):
            yield seen
        if not seen:
            raise Unsupported(f"layer {layer!r} of model {self.name!r} does not run in a forward pass")

    @contextmanager
    def _hooked(self, hooks: Mapping[str, Callable[[Any], Any]]) -> Iterator[None]:
        """Pass the outputs of the named layers through functions: works for any graph, as a torch forward hook does."""
        layers = self._named()
        own = {name: vars(layers[name])["call"] for name in hooks if "call" in vars(layers[name])}
        try:
            for name, hook in hooks.items():
                # Past Keras's own __setattr__, which would track the function as part of the model.
                object.__setattr__(layers[name], "call", _after(layers[name].call, hook))
            yield
        finally:
            for name in hooks:
                vars(layers[name]).pop("call", None)
            for name, call in own.items():
                object.__setattr__(layers[name], "call", call)


@contextmanager
def _memory() -> Iterator[None]:
    """What TensorFlow raises when memory runs out, as `OutOfMemory`."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise OutOfMemory(str(error)) from error


def _after(call: Callable[..., Any], hook: Callable[[Any], Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return hook(call(*args, **kwargs))

    return wrapped
