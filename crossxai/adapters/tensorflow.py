"""Keras 3 models on TensorFlow behind the protocols of `crossxai.model`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from crossxai.adapters import tensorflow_attention, tensorflow_copies, tensorflow_layers
from crossxai.adapters.checks import MeanSd, check_inputs, model_failed, original_layers
from crossxai.adapters.describing import Declared
from crossxai.adapters.retraining import Step, rate_of
from crossxai.adapters.returned import leaves
from crossxai.adapters.tensorflow_backend import KerasBackend, weighed
from crossxai.adapters.tensorflow_calling import DataFormat, Passage, named, symbols
from crossxai.adapters.tensorflow_layers import hooked, once, to_array
from crossxai.adapters.tensorflow_tracing import Traces
from crossxai.attention import AttentionMap, Streams
from crossxai.errors import CrossXAIError, InvalidInput, OutOfMemory, UnknownName, Unsupported
from crossxai.model import Array, Cotangent, Inputs, Modality
from crossxai.outputs import Outputs
from crossxai.porting.certificate import require_same_outputs
from crossxai.porting.graph import fold_batch_norms
from crossxai.porting.to_keras import build
from crossxai.process import foreign, streams_kept

if TYPE_CHECKING:
    from crossxai.porting.graph import Graph


class KerasModel(Declared):
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
            return scores, _gradient(tape, scores, own, None)

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
            return outputs, _gradient(tape, outputs, tensors, self._weighing(outputs))

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

    def hints(self) -> Mapping[str, Any]:
        """What the model shows of itself without a pass; see `tensorflow_layers`."""
        return tensorflow_layers.hints(self._named().values())

    def activations(self, inputs: Inputs, layers: Collection[str] | None = None) -> dict[str, Array]:
        """Of layers (or those named) that run exactly once per pass and give a tensor: name → activation, in its own axes."""
        activations: dict[str, Array] = {}
        runs: dict[str, int] = {}

        def record(name: str, output: Any) -> Any:
            runs[name] = runs.get(name, 0) + 1
            if tf.is_tensor(output) and len(output.shape) >= 2 and (layers is None or name in layers):
                activations[name] = to_array(output)
            return output

        self._build(inputs)
        layers = named(self.model)
        with self._guarded(inputs), hooked(layers, {name: partial(record, name) for name in layers}):
            self._run(*self._tensors(inputs))
        return self._by_original_names({name: values for name, values in activations.items() if runs[name] == 1})

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

    def class_of(self, layer: str) -> str:
        """The class of a layer, such as "Conv2D"."""
        return type(self._named()[layer]).__name__

    def layer_vjp(self, inputs: Inputs, cotangent: Cotangent, layer: str) -> tuple[Array, Array, Array]:
        """(outputs, the layer's activation, gradient at it), in the layer's own axes."""
        self._check_layer(layer, inputs)

        def both(*tensors: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:

                def watched(output: Any) -> Any:
                    copy = tf.identity(output)
                    tape.watch(copy)
                    return copy

                with once(self._named(), layer, self.name, watched) as seen:
                    outputs = self._run(*tensors)
            return outputs, seen[0], _gradient(tape, outputs, seen, self._weighing(outputs))[0]

        outputs, activation, gradient = self._with(cotangent, f"vjp at {layer}", both, inputs)
        return to_array(outputs), to_array(activation), to_array(gradient)

    def read(self, inputs: Inputs, layer: str) -> tuple[Array, Array]:
        """(outputs, the layer's activation in its own axes), from one forward pass."""
        self._check_layer(layer, inputs)

        def both(*tensors: Any) -> Any:
            with once(self._named(), layer, self.name, tf.identity) as seen:
                outputs = self._run(*tensors)
            return outputs, seen[0]

        outputs, activation = self._with(None, f"read {layer}", both, inputs)
        return to_array(outputs), to_array(activation)

    def replace(self, inputs: Inputs, layer: str, activation: Array) -> Array:
        """Outputs when the layer's output is replaced by `activation`, in the layer's own axes."""
        self._check_layer(layer, inputs)

        def swapped(*tensors: Any) -> Any:
            given = tensors[-1]
            with once(self._named(), layer, self.name, lambda output: tf.cast(given, output.dtype)):
                return self._run(*tensors[:-1])

        return to_array(self._with(None, f"replace {layer}", swapped, inputs, [activation]))

    def traced_matches(self, inputs: Inputs) -> bool:
        """Whether the model's code, run eagerly, still gives what its trace gives; two passes.

        Changes of the model are noticed in its attributes, lists, arrays, functions and classes, and traced anew; so is what
        this finds. False means that the two differ after that, too: the code draws at random or keeps a state.
        """
        tensors = self._tensors(inputs)
        with self._guarded(inputs):
            eager = to_array(self._run(*tensors))
            for _ in range(2):
                traced = to_array(self._traces.run("predict", self._run, tensors))
                limit = 1e-4 * float(np.abs(eager).max(initial=0))
                if traced.shape == eager.shape and np.allclose(traced, eager, rtol=1e-4, atol=limit, equal_nan=True):
                    return True
                self._traces.forget()
        return False

    def ending(self, inputs: Inputs) -> str | None:
        """The last operation of a forward pass: see `tensorflow_layers`."""
        tensors = self._tensors(inputs)
        with self._guarded(inputs):
            graph = self._traces.graph("predict", self._run, tensors)
            return None if graph is None else tensorflow_layers.last_operation(graph.outputs[0])

    def graph(self, inputs: Inputs, whole: bool = False) -> Graph:
        """The network for inputs of these sizes, standardisation included; see `crossxai.porting.graph`."""
        from crossxai.porting.from_keras import graph_of

        check_inputs(inputs, self.modalities, self.name)
        if any(self._passage.channels_first(self.model)):
            raise Unsupported(f"model {self.name!r} takes channels first, which has no translation: only channels last")
        self._build(inputs)
        shapes = [tuple(values.shape[1:]) for values in inputs]
        with self._lock:
            graph = graph_of(
                self.model, shapes, self.modalities, named(self.model), self._constants, self.dtype.name,
                arrange=partial(self._passage.arranged, self.model), choose=self._passage.chosen, whole=whole,
            )  # fmt: skip
        return replace(graph, layers=self._by_original_names(graph.layers))

    def attention_vjp(
        self, inputs: Inputs, cotangent: Cotangent | None, nudges: Sequence[Array] = ()
    ) -> tuple[Array, tuple[AttentionMap, ...]]:
        """(outputs, attention probabilities layer by layer and the gradient at them), one backward pass if wanted."""
        self._build(inputs)
        kind, weigh = ("attention", None) if cotangent is None else ("attention vjp", self._weighing)
        both = tensorflow_attention.traced(self._run, weigh, lambda: named(self.model), self.name, len(inputs))
        kind = f"{kind}, {len(nudges)} nudged" if nudges else kind
        outputs, names, values, gradients = self._with(cotangent, kind, both, inputs, nudges)
        return to_array(outputs), tensorflow_attention.maps(names, values, gradients, len(inputs[0]), self.name)

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

    def trained_statistics(self, inputs: Inputs) -> dict[str, tuple[Array, Array]]:
        """Batch norm → (running mean, running variance) after one pass in training mode; see `tensorflow_copies`."""
        self._build(inputs)
        with self._guarded(inputs):
            tensors = self._tensors(inputs)
            found = tensorflow_copies.trained_statistics(named(self.model), lambda: self._run(*tensors))
        return self._by_original_names(found)

    def weight_gradients(self, inputs: Inputs, cotangent: Cotangent) -> dict[str, list[Array]]:
        """Layer → the gradient at each of its weights, frozen or not; zeros where the outputs do not depend on them."""
        owned = {name: tensorflow_copies.owned(layer) for name, layer in self._weights(inputs).items()}
        every = [w for some in owned.values() for w in some]
        found = iter(map(to_array, self._with(cotangent, "weights", self._slopes(every), inputs)))
        return {name: [next(found) for _ in some] for name, some in owned.items()}

    def _slopes(self, weights: Sequence[Any]) -> Callable[..., Any]:
        """The gradients at these weights, as a function of the inputs, see `_with`."""

        def slopes(*tensors: Any) -> Any:
            values = [w.value for w in weights]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                outputs = self._run(*tensors)
            return _gradient(tape, outputs, values, self._weighing(outputs))

        return slopes

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

    def _weights(self, inputs: Inputs) -> dict[str, Any]:
        self._build(inputs)
        one = self._tensors(tuple(v[:1] for v in inputs))
        with self._guarded(inputs):
            return tensorflow_copies.weighted_layers(self.model, named(self.model), lambda: self._run(*one))

    def _build(self, inputs: Inputs) -> None:
        """A subclassed model has no layers before its first call."""
        if not self.model.built:
            with self._guarded(inputs):
                self._run(*(tensor[:1] for tensor in self._tensors(inputs)))

    def _named(self) -> dict[str, Any]:
        """The layers by every name that the layer verbs know them by."""
        own = named(self.model)
        return own | {name: own[layer] for name, layer in original_layers(self.model).items() if layer in own}

    def _check_layer(self, layer: str, inputs: Inputs) -> None:
        self._build(inputs)
        if layer not in self._named():
            raise UnknownName(f"layer of model {self.name!r}", layer, self._named())

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


def _gradient(tape: Any, outputs: Any, sources: Any, weights: Any) -> list[Any]:
    """Dense gradients, zeros where the graph does not reach."""
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(outputs, list(sources), weights, unconnected_gradients=zero)
    return [tf.convert_to_tensor(gradient) for gradient in gradients]
