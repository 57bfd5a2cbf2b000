"""PyTorch models behind the protocols of `crossxai.model`; the only place that turns channels-last arrays into NCHW."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.adapters import torch_attention, torch_ending, torch_folding, torch_weights
from crossxai.attention import AttentionMap, Streams, declared
from crossxai.errors import InvalidInput, OutOfMemory, UnknownName, Unsupported
from crossxai.model import Array, Cotangent, Inputs, Modality
from crossxai.model_checks import MeanSd, check_inputs, check_modalities, check_outputs, constants
from crossxai.outputs import Outputs, check_declared
from crossxai.porting.folding import check
from crossxai.redrawing import check_depth

if TYPE_CHECKING:
    from crossxai.graph import Graph


class TorchModel:
    """A torch module in evaluation mode, taking one tensor per modality, images channels first.

    standardise: (mean, sd) per modality name, applied on the model's side. output_axes: the axes after the sample axis,
    ("class",) or ("y", "x", "class"), the class axis being torch's axis 1. streams: a transformer's tokens. Runs in the
    dtype of the module's parameters. The module is never moved or changed, but for `device`. Raises `InvalidInput` if it
    is in training mode.
    """

    def __init__(
        self,
        module: nn.Module,
        modalities: tuple[Modality, ...],
        *,
        device: str | torch.device = "cpu",
        standardise: Mapping[str, MeanSd] | None = None,
        output_axes: tuple[str, ...] = ("class",),
        streams: Streams | None = None,
        outputs: Outputs | None = None,
        name: str = "pytorch",
    ) -> None:
        if not isinstance(module, nn.Module):
            raise InvalidInput(f"TorchModel takes a torch.nn.Module, got {type(module).__name__}")
        self.name = name
        self.modalities = check_modalities(modalities)
        self.module = module.to(device)
        self.output_axes = output_axes
        self.outputs = check_declared(outputs)
        self.streams = streams if streams is None else streams.check(self.modalities)
        parameter = next((p for p in module.parameters() if p.is_floating_point()), None)
        self.dtype = torch.float32 if parameter is None else parameter.dtype
        self.device = torch.device(device)
        self._lock = threading.RLock()  # hooks belong to the module, so one request at a time
        self._constants = dict(standardise or {})
        self._standardise: list[tuple[Tensor, Tensor] | None] = []
        for modality, (mean, sd) in zip(self.modalities, constants(standardise, self.modalities), strict=True):
            plain = not mean.any() and (sd == 1).all()
            shape = (1, -1, *[1] * (len(modality.axes) - 1))
            pair = tuple(torch.tensor(v.reshape(shape), dtype=self.dtype, device=self.device) for v in (mean, sd))
            self._standardise.append(None if plain else (pair[0], pair[1]))
        self._check_mode()

    @property
    def standardise(self) -> dict[str, MeanSd]:
        """(mean, sd) by modality, as declared."""
        return dict(self._constants)

    def predict(self, inputs: Inputs) -> Array:
        """Outputs (n, *out), class axis last."""
        with self._lock, torch.inference_mode(False), torch.no_grad(), _memory():
            return self._outputs(self._run(self._tensors(inputs, shared=True)))

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        """(outputs, gradient at each input), from one forward and one backward pass."""
        with self._lock, torch.inference_mode(False), torch.enable_grad(), _memory():
            tensors = [t.requires_grad_() for t in self._tensors(inputs)]
            raw = self._run(tensors)
            outputs = self._outputs(raw)
            grads = torch.autograd.grad(raw, tensors, self._cotangent(cotangent, outputs), allow_unused=True)
        return outputs, tuple(
            np.zeros(x.shape, outputs.dtype) if g is None else _last(g, m.spatial)
            for m, x, g in zip(self.modalities, inputs, grads, strict=True)
        )

    def activations(self, inputs: Inputs) -> dict[str, Array]:
        """Of layers that run exactly once per pass and give a tensor: name → activation, channels last."""
        found: dict[str, Array] = {}
        runs: dict[str, int] = {}

        def record(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any, output: Any) -> None:
                runs[name] = runs.get(name, 0) + 1
                if isinstance(output, Tensor) and output.ndim >= 2:
                    found[name] = _last(output.detach().clone(), output.ndim > 3)  # before an in-place ReLU comes

            return hook

        with self._lock:
            handles = [m.register_forward_hook(record(n)) for n, m in self.module.named_modules() if n]
            try:
                self.predict(inputs)
            finally:
                for handle in handles:
                    handle.remove()
        return {name: activation for name, activation in found.items() if runs[name] == 1}

    def layer_vjp(self, inputs: Inputs, cotangent: Cotangent, layer: str) -> tuple[Array, Array, Array]:
        """(outputs, the layer's activation, gradient at it), channels last, correct under later in-place operations."""
        seen: list[Tensor] = []

        def record(output: Tensor) -> Tensor:
            seen.append(output.detach().clone().requires_grad_())
            return seen[0].clone()  # a later in-place ReLU then changes the copy, not what was recorded

        with self._lock, torch.inference_mode(False), torch.enable_grad(), _memory():
            with self._replacing(layer, record):
                raw = self._run(self._tensors(inputs))
            outputs = self._outputs(raw)
            if not raw.requires_grad:
                raise Unsupported(f"layer {layer!r} of model {self.name!r} has no influence on the outputs")
            (gradient,) = torch.autograd.grad(raw, seen, self._cotangent(cotangent, outputs), allow_unused=True)
        zero = torch.zeros_like(seen[0])
        space = (
            seen[0].ndim > 3
        )  # a layer declares no axes: (n, channel, y, x) has space, (n, token, channel) is as it is
        return outputs, _last(seen[0].detach(), space), _last(zero if gradient is None else gradient, space)

    def read(self, inputs: Inputs, layer: str) -> tuple[Array, Array]:
        """(outputs, the layer's activation), channels last, from one forward pass."""
        seen: list[Tensor] = []

        def record(output: Tensor) -> Tensor:
            seen.append(output.clone())  # before an in-place ReLU comes
            return output

        with self._lock, torch.inference_mode(False), torch.no_grad(), _memory(), self._replacing(layer, record):
            raw = self._run(self._tensors(inputs))
        return self._outputs(raw), _last(seen[0], seen[0].ndim > 3)

    def replace(self, inputs: Inputs, layer: str, activation: Array) -> Array:
        """Outputs when the layer's output is replaced by `activation`, channels last."""
        given = torch.tensor(activation, dtype=self.dtype, device=self.device)
        given = given.movedim(-1, 1) if given.ndim > 3 else given
        given_back = self._replacing(layer, lambda _output: given.clone())
        with self._lock, torch.inference_mode(False), torch.no_grad(), _memory(), given_back:
            return self._outputs(self._run(self._tensors(inputs)))

    def ending(self, inputs: Inputs) -> str | None:
        """The last operation of a forward pass: see `torch_ending`."""
        with self._lock, torch.inference_mode(False), torch.enable_grad(), _memory():
            return torch_ending.ending(self._run([t.requires_grad_() for t in self._tensors(inputs)]))

    def graph(self, inputs: Inputs) -> Graph:
        """The network for inputs of these sizes, standardisation included; see `crossxai.graph`."""
        from crossxai.porting.from_torch import graph_of

        with self._lock, torch.inference_mode(False):
            self._check_mode()
            return graph_of(self.module, self._tensors(inputs), self.modalities, self._constants)

    def attention_vjp(self, inputs: Inputs, cotangent: Cotangent | None) -> tuple[Array, tuple[AttentionMap, ...]]:
        """(outputs, attention probabilities layer by layer and the gradient at them), one backward pass if asked for."""
        declared(self.streams, self.name)
        gradients = cotangent is not None
        with self._lock, torch.inference_mode(False), torch.set_grad_enabled(gradients), _memory():
            with torch_attention.Recording(self.module, gradients) as recording:
                raw = self._run(self._tensors(inputs))
            outputs = self._outputs(raw)
            weights = None if cotangent is None else self._cotangent(cotangent, outputs)
            return outputs, torch_attention.maps(recording.found, raw, weights, self.name)

    def weighted(self, inputs: Inputs) -> tuple[str, ...]:
        """The layers that have parameters and run, the one nearest to the output first."""
        return tuple(self._weights(inputs))

    def randomised(self, inputs: Inputs, depth: int, seed: int) -> TorchModel:
        """A copy with the parameters of the first `depth` layers of `weighted` drawn anew; running statistics are kept."""
        weights = self._weights(inputs)
        check_depth(depth, tuple(weights), self.name)
        with self._lock, torch.inference_mode(False):
            chosen = {name: weights[name] for name in list(weights)[:depth]}
            module = torch_weights.randomised(self.module, chosen, seed, self.name)
        return self._around(module)

    def folded(self, inputs: Inputs) -> TorchModel:
        """A copy for scoring, batch norms folded and weights laid out channels last; see `crossxai.model.Foldable`."""
        with self._lock, torch.inference_mode(False), torch.no_grad(), _memory():
            faster = self._around(torch_folding.folded(self.module, lambda: self.graph(inputs), self.name))
        check(self.predict(inputs), faster.predict(inputs), self.name)
        return faster

    def _around(self, module: nn.Module) -> TorchModel:
        """The same declarations about another module."""
        return TorchModel(
            module,
            self.modalities,
            device=self.device,
            standardise=self._constants,
            output_axes=self.output_axes,
            streams=self.streams,
            outputs=self.outputs,
            name=self.name,
        )

    def _weights(self, inputs: Inputs) -> dict[str, list[str]]:
        with self._lock:
            return torch_weights.layers(self.module, lambda: self.predict(tuple(v[:1] for v in inputs)))

    def _check_mode(self) -> None:
        training = [name or "the module itself" for name, m in self.module.named_modules() if m.training]
        if training:
            raise InvalidInput(
                f"the module is in training mode ({training[0]}{' and others' if len(training) > 1 else ''}): dropout and "
                "batch norm would make every explanation random; write module.eval() first"
            )

    def _tensors(self, inputs: Inputs, shared: bool = False) -> list[Tensor]:
        """shared: the tensors may be the arrays' own memory, which `_run` does not write to."""
        check_inputs(inputs, self.modalities, self.name)
        tensors = [
            (torch.as_tensor if shared and values.flags.writeable else torch.tensor)(
                values, dtype=self.dtype, device=self.device
            )
            for values in inputs
        ]
        # The NCHW view of an NHWC tensor is torch's channels_last layout: no copy, and the faster one on a CPU.
        return [t.movedim(-1, 1) if m.spatial else t for m, t in zip(self.modalities, tensors, strict=True)]

    def _run(self, tensors: list[Tensor]) -> Tensor:
        self._check_mode()
        raw = [
            t.clone() if pair is None else (t - pair[0]) / pair[1]
            for t, pair in zip(tensors, self._standardise, strict=True)
        ]
        outputs = self.module(*raw)
        if not isinstance(outputs, Tensor):
            raise Unsupported(
                f"model {self.name!r} returns {type(outputs).__name__}, not one tensor: wrap it in a module that does"
            )
        check_outputs(tuple(outputs.shape), self.output_axes, self.name)
        return outputs

    def _outputs(self, raw: Tensor) -> Array:
        return _last(raw.detach(), len(self.output_axes) > 1)

    def _cotangent(self, cotangent: Cotangent, outputs: Array) -> Tensor:
        weights = torch.tensor(cotangent(outputs), dtype=self.dtype, device=self.device)
        return weights.movedim(-1, 1) if len(self.output_axes) > 1 else weights

    @contextmanager
    def _replacing(self, layer: str, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Pass the layer's output through `function`; the hook is removed afterwards."""
        modules = dict(self.module.named_modules())
        if layer not in modules or not layer:
            raise UnknownName(f"layer of model {self.name!r}", layer, [n for n in modules if n])
        runs = 0

        def hook(_module: nn.Module, _args: Any, output: Any) -> Tensor:
            nonlocal runs
            runs += 1
            if runs > 1:
                raise Unsupported(f"layer {layer!r} of model {self.name!r} runs more than once in a pass: name another")
            if not isinstance(output, Tensor):
                raise Unsupported(f"layer {layer!r} of model {self.name!r} gives {type(output).__name__}, not a tensor")
            return function(output)

        handle = modules[layer].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()
        if not runs:
            raise Unsupported(f"layer {layer!r} of model {self.name!r} does not run in a forward pass")


@contextmanager
def _memory() -> Iterator[None]:
    """What torch raises when memory runs out, as `OutOfMemory`; on a CPU that is a RuntimeError told by its words alone."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise OutOfMemory(str(error)) from error


def _last(tensor: Tensor, moved: bool) -> Array:
    """A contiguous NumPy array, with torch's axis 1 moved last if it is the channel axis; half precision becomes float32."""
    placed = tensor.movedim(1, -1) if moved else tensor
    full = placed if placed.dtype in (torch.float32, torch.float64) else placed.float()
    return np.ascontiguousarray(full.cpu().numpy())
