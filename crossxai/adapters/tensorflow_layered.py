"""The layers of a Keras model: read, replaced, attended to, and as a graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from crossxai.adapters import tensorflow_attention, tensorflow_copies, tensorflow_layers
from crossxai.adapters.checks import check_inputs, own_names
from crossxai.adapters.tensorflow_calling import named
from crossxai.adapters.tensorflow_layers import hooked, once, to_array
from crossxai.adapters.tensorflow_network import KerasNetwork, gradients_of
from crossxai.attention import AttentionMap
from crossxai.errors import UnknownName, Unsupported
from crossxai.model import Array, Cotangent, Inputs

if TYPE_CHECKING:
    from crossxai.porting.graph import Graph


class LayeredNetwork(KerasNetwork):
    """A Keras model whose layers can be read and replaced."""

    def activations(self, inputs: Inputs, layers: Collection[str] | None = None) -> dict[str, Array]:
        """Of layers (or those named) that run exactly once per pass and give a tensor: name → activation, in its own axes."""
        wanted = own_names(self.model, layers)
        activations: dict[str, Array] = {}
        runs: dict[str, int] = {}

        def record(name: str, output: Any) -> Any:
            runs[name] = runs.get(name, 0) + 1
            if tf.is_tensor(output) and len(output.shape) >= 2 and (wanted is None or name in wanted):
                activations[name] = to_array(output)
            return output

        self._build(inputs)
        own = named(self.model)
        with self._guarded(inputs), hooked(own, {name: partial(record, name) for name in own}):
            self._run(*self._tensors(inputs))
        return self._by_original_names({name: values for name, values in activations.items() if runs[name] == 1})

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
            return outputs, seen[0], gradients_of(tape, outputs, seen, self._weighing(outputs))[0]

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
            return gradients_of(tape, outputs, values, self._weighing(outputs))

        return slopes

    def _weights(self, inputs: Inputs) -> dict[str, Any]:
        self._build(inputs)
        one = self._tensors(tuple(v[:1] for v in inputs))
        with self._guarded(inputs):
            return tensorflow_copies.weighted_layers(self.model, named(self.model), lambda: self._run(*one))

    def _check_layer(self, layer: str, inputs: Inputs) -> None:
        self._build(inputs)
        if layer not in self._named():
            raise UnknownName(f"layer of model {self.name!r}", layer, self._named())
