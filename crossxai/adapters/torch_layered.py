"""The layers of a torch module: read, replaced, attended to, and as a graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.adapters import torch_attention, torch_layers, torch_running
from crossxai.adapters.checks import one_output, original_layers, own_names
from crossxai.adapters.torch_network import TorchNetwork
from crossxai.adapters.torch_running import to_array
from crossxai.assumptions.facts import kind_of, known
from crossxai.attention import AttentionMap
from crossxai.errors import UnknownName, Unsupported
from crossxai.model import Array, Cotangent, Inputs

if TYPE_CHECKING:
    from crossxai.porting.graph import Graph


class LayeredNetwork(TorchNetwork):
    """A torch module whose layers can be read and replaced."""

    def cut(self, inputs: Inputs) -> str:
        """Where the gradient of the outputs is lost on the way to the inputs, in words, as far as layers tell."""
        run = partial(self._run_differentiable, inputs)
        return self._guarded(inputs, True, lambda: torch_layers.cut(self.module, run))

    def calls(self, inputs: Inputs) -> torch_running.Calls:
        """What the module calls in one forward pass; see `torch_running`."""
        with self._lock:
            return torch_running.record_calls(self.module, lambda: self.predict(inputs))

    def activations(self, inputs: Inputs, layers: Collection[str] | None = None) -> dict[str, Array]:
        """Of layers (or those named) that run exactly once per pass and give a tensor: name → activation, in its own order."""
        wanted = own_names(self.module, layers)
        activations: dict[str, Array] = {}
        runs: dict[str, int] = {}
        seen = torch_layers.Seen()

        def look(name: str, layer: nn.Module, given: Any, output: Any) -> None:
            runs[name] = runs.get(name, 0) + 1
            if isinstance(output, Tensor) and output.ndim >= 2:
                self._axes[name] = seen.axes(layer, given, output)
                if wanted is None or name in wanted:
                    activations[name] = to_array(output.detach().clone())  # before an in-place ReLU comes

        self._check_layers()
        with self._lock, torch_layers.hooked(torch_layers.inner_layers(self.module), look), seen:
            self.predict(inputs)
        return self._by_original_names({name: values for name, values in activations.items() if runs[name] == 1})

    def axes_of(self, layer: str) -> torch_layers.Axes | None:
        """What the axes of a layer's output after the sample axis mean; None where its definition does not tell.

        Known from the layer alone, and after `activations` from the layers that its tensor came through.
        """
        own = original_layers(self.module).get(layer, layer)
        return self._axes.get(own) or torch_layers.definition(self._layer(layer))

    def kind_of(self, layer: str) -> str:
        """The class of a layer, such as "LayerNorm"; of one whose only matrix of weights is a linear layer's, such as a
        linear layer with its norm, that linear layer's. "" of what only held layers of the network that this is the twin of."""
        inner = torch_layers.layers_of(self.module)
        if layer not in inner and any(name.startswith(f"{layer}.") for name in original_layers(self.module)):
            return ""
        return torch_layers.kind(self._layer(layer))

    def layer_vjp(self, inputs: Inputs, cotangent: Cotangent, layer: str) -> tuple[Array, Array, Array]:
        """(outputs, the layer's activation, gradient at it), in its own order, correct under later in-place operations."""
        seen: list[Tensor] = []

        def record(output: Tensor) -> Tensor:
            if not output.is_floating_point():
                raise Unsupported(f"layer {layer!r} of model {self.name!r} gives {output.dtype}: no gradient at it")
            seen[:] = [output.detach().clone().requires_grad_()]
            with torch.enable_grad():  # the layer itself may run without gradients, what comes after it may not
                return seen[0].clone()  # a later in-place ReLU then changes the copy, not what was recorded

        def both() -> tuple[Array, list[Tensor | None]]:
            with self._replacing(layer, record):
                raw = self._run(self._tensors(inputs))
            outputs = self._outputs(raw)
            return outputs, self._gradients(raw, seen, cotangent, outputs)

        outputs, (gradient,) = self._guarded(inputs, True, both)
        return outputs, to_array(seen[0]), to_array(torch.zeros_like(seen[0]) if gradient is None else gradient)

    def read(self, inputs: Inputs, layer: str) -> tuple[Array, Array]:
        """(outputs, the layer's activation), in its own order, from one forward pass."""
        seen: list[Tensor] = []

        def record(output: Tensor) -> Tensor:
            seen[:] = [output.clone()]  # before an in-place ReLU comes
            return output

        return self._run_replacing(inputs, layer, record), to_array(seen[0])

    def replace(self, inputs: Inputs, layer: str, activation: Array) -> Array:
        """Outputs when the layer's output is replaced by `activation`, in its own order."""
        given = torch.tensor(np.ascontiguousarray(activation), device=self.device)
        return self._run_replacing(inputs, layer, lambda output: given.to(output.dtype).clone())

    def ending(self, inputs: Inputs) -> str | None:
        """The last operation of a forward pass: see `torch_layers`."""
        return self._guarded(inputs, True, lambda: torch_layers.last_operation(self._run_differentiable(inputs)))

    def graph(self, inputs: Inputs, whole: bool = False) -> Graph:
        """The network for inputs of these sizes, standardisation included; see `crossxai.porting.graph`."""
        graph = self._graph(inputs, whole)
        return replace(graph, layers=self._by_original_names(graph.layers))

    def attention_vjp(
        self, inputs: Inputs, cotangent: Cotangent | None, nudges: Sequence[Array] = ()
    ) -> tuple[Array, tuple[AttentionMap, ...]]:
        """(outputs, attention probabilities layer by layer and the gradient at them), one backward pass if wanted."""
        weigh = None if cotangent is None else lambda raw: self._weighing(cotangent, self._outputs(raw))

        def run() -> tuple[Array, tuple[AttentionMap, ...]]:
            tensors = self._tensors(inputs)
            raw, maps = torch_attention.attended(self.module, self._run, tensors, weigh, self.name, nudges)
            return self._outputs(raw), maps

        return self._guarded(inputs, weigh is not None, run)

    def trained_statistics(self, inputs: Inputs) -> dict[str, tuple[Array, Array]]:
        """Batch norm → (running mean, running variance) after one pass in training mode; see `torch_running`."""
        with self._lock:
            found = torch_running.trained_statistics(self.module, lambda: self.predict(inputs))
        return self._by_original_names(found)

    def weight_gradients(self, inputs: Inputs, cotangent: Cotangent) -> dict[str, list[Array]]:
        """Layer → the gradient at each of its parameters that the outputs depend on, frozen or not."""
        owned = self._weights(inputs)

        def slopes() -> dict[str, Tensor | None]:
            parameters = {n: p for n, p in self.module.named_parameters() if p.is_floating_point()}
            frozen = [p for p in parameters.values() if not p.requires_grad]
            try:
                for parameter in frozen:
                    parameter.requires_grad_(True)
                raw = self._run(self._tensors(inputs))
                found = self._gradients(raw, list(parameters.values()), cotangent, self._outputs(raw))
            finally:
                for parameter in frozen:
                    parameter.requires_grad_(False)
            return dict(zip(parameters, found, strict=True))

        found = self._guarded(inputs, True, slopes)
        return {name: [to_array(g) for n in names if (g := found[n]) is not None] for name, names in owned.items()}

    def _graph(self, inputs: Inputs, whole: bool = False) -> Graph:
        """The graph whose layers have the module's own names, those of a twin, too."""
        from crossxai.porting.from_torch import graph_of, shape_of

        with self._lock, torch.inference_mode(False):
            self._check_mode()
            one = tuple(v[:1] for v in inputs)
            # How images have to lie in memory shows in a pass; once known of this state of the module, no pass is needed.
            known(self, ("lies in memory", kind_of(one)), lambda: self.predict(one).shape)
            choose = partial(one_output, output=self.output, axes=self.output_axes, model=self.name, shape=shape_of)
            return graph_of(self.module, self._tensors(inputs), self.modalities, self._constants, choose, whole)

    def _weights(self, inputs: Inputs) -> dict[str, list[str]]:
        with self._lock:
            return torch_running.weighted_layers(self.module, lambda: self.predict(tuple(v[:1] for v in inputs)))

    def _run_replacing(self, inputs: Inputs, layer: str, function: Callable[[Tensor], Tensor]) -> Array:
        """Outputs when the layer's output passes through a function."""

        def run() -> Array:
            with self._replacing(layer, function):
                return self._outputs(self._run(self._tensors(inputs)))

        return self._guarded(inputs, False, run)

    def _check_layers(self) -> None:
        if isinstance(self.module, torch.jit.ScriptModule):
            raise Unsupported(
                f"model {self.name!r} is TorchScript, whose layers cannot be read or replaced; gradients and scores work: wrap "
                "the module it was made from for maps of layers"
            )

    def _layer(self, layer: str) -> nn.Module:
        self._check_layers()
        modules = torch_layers.layers_of(self.module)
        if layer not in modules:
            raise UnknownName(f"layer of model {self.name!r}", layer, modules)
        return modules[layer]

    def _replacing(self, layer: str, function: Callable[[Tensor], Tensor]) -> AbstractContextManager[None]:
        return torch_layers.replacing(self._layer(layer), function, f"layer {layer!r} of model {self.name!r}")
