"""PyTorch models behind the protocols of `crossxai.model`; the only place that turns channels-last arrays into NCHW."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.adapters import torch_attention, torch_computing, torch_layers, torch_running
from crossxai.adapters.checks import (
    WITHOUT_GRADIENTS,
    MeanSd,
    Precision,
    as_rows,
    check_inputs,
    model_failed,
    one_output,
    original_layers,
)
from crossxai.adapters.describing import Declared
from crossxai.adapters.retraining import Step, rate_of
from crossxai.adapters.returned import leaves
from crossxai.adapters.torch_backend import TorchBackend, weighed
from crossxai.adapters.torch_running import to_array
from crossxai.assumptions.facts import kind_of, known
from crossxai.attention import AttentionMap, Streams
from crossxai.errors import BrokenAssumption, CrossXAIError, InvalidInput, UnknownName, Unsupported
from crossxai.model import Array, Cotangent, Inputs, Modality
from crossxai.outputs import Outputs
from crossxai.porting.certificate import require_same_outputs
from crossxai.process import foreign, torch_threads

if TYPE_CHECKING:
    from crossxai.porting.graph import Graph

T = TypeVar("T")


class TorchModel(Declared):
    """A torch module in evaluation mode, taking one tensor per modality, images and volumes channels first.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode; it is never moved or changed, but for `device`. Compiled and data-parallel modules are run without
        their wrapper. Runs in the dtype of its parameters.
    modalities : tuple of Modality
        The inputs in the order of the module's arguments. Arrays are channels last; the adapter gives torch its own order.
    device : str or torch.device, where the module runs; the CPU by default, "auto" is a GPU if there is one
    standardise : mapping of str to (mean, sd), optional, by modality: subtracted and divided by, so that maps stay in raw values
    output_axes : tuple of str
        The axes of the outputs after the sample axis, ("class",) or ("y", "x", "class"); the class axis is torch's axis 1.
    streams : Streams, optional, a transformer's tokens
    output : str or int, optional
        Key or position of the tensor that counts, where the module returns several; the only one with these axes if not given.
    outputs : {"logits", "probabilities", "log_probabilities", "values"}, optional, what they are; measured if not given
    layer_axes : mapping of str to tuple of str, optional
        Meaning of the axes of layers' outputs after the sample axis, in torch's own order, such as
        {"features.7": ("y", "x", "channel")}, where neither the layer nor a measurement tells.
    precision : {"float32", "bf16"}
        "float32" runs the module as it is, in the dtype of its parameters; "bf16" a module in float32 under torch.autocast, in
        bfloat16 where torch holds that to be safe. Outputs and gradients come back as float32.
    compile : bool or str, whether torch.compile makes the network that metrics' streams of scores go through
        True is its backend "inductor", or the name of another. Gradients, layers and single passes are the module's own.
    name : str, the name in messages, files and reports

    Raises
    ------
    InvalidInput: if the module is in training mode, a declaration does not fit, or there is no such device
    """

    framework = "PyTorch"
    tensor_library = "torch"

    def __init__(
        self,
        module: nn.Module,
        modalities: tuple[Modality, ...],
        *,
        device: str | torch.device = "cpu",
        standardise: Mapping[str, MeanSd] | None = None,
        output_axes: tuple[str, ...] = ("class",),
        streams: Streams | None = None,
        output: str | int | None = None,
        outputs: Outputs | None = None,
        layer_axes: Mapping[str, tuple[str, ...]] | None = None,
        precision: Precision = "float32",
        compile: bool | str = False,
        name: str = "pytorch",
    ) -> None:
        if not isinstance(module, nn.Module):
            raise InvalidInput(f"TorchModel takes a torch.nn.Module, got {type(module).__name__}")
        super().__init__(name, modalities, output_axes, outputs, output, standardise, streams, layer_axes)
        self.device = torch_running.device_of(device)
        self.module = torch_running.unwrap(module).to(self.device)
        weights = (w for ws in (self.module.parameters(), self.module.buffers()) for w in ws if w.is_floating_point())
        self.dtype = next((w.dtype for w in weights), torch.float32)
        self.precision = torch_computing.precision_of(precision, self.dtype)
        self.compile = torch_computing.backend_of(compile, self.module)
        self.compiled_difference = 0.0  # of outputs, from those of the model that this is the compiled copy of
        self._forward: Callable[..., Any] = self.module
        self._fast: tuple[Any, TorchModel] | None = None  # the compiled copy, and the state that it is of
        self._axes: dict[str, torch_layers.Axes | None] = {}
        self._contiguous = False  # whether images lie in memory as torch's own, for networks that end in `.view`
        self._standardise: list[tuple[Tensor, ...]] = []  # mean and sd, or nothing
        for modality, pair in zip(self.modalities, self._pairs, strict=True):
            shape = (1, -1, *[1] * (len(modality.axes) - 1))
            mean_sd = (torch.tensor(v.reshape(shape), dtype=self.dtype, device=self.device) for v in pair or ())
            self._standardise.append(tuple(mean_sd))
        self._check_mode()

    @property
    def network(self) -> nn.Module:
        """The torch module."""
        return self.module

    @property
    def size(self) -> str:
        """Number and dtype of the parameters, and the device."""
        count = sum(weights.numel() for weights in self.module.parameters())
        reduced = "" if self.precision == "float32" else f", computing in {self.precision}"
        return f"{count:,} parameters, {str(self.dtype).removeprefix('torch.')} on {self.device}{reduced}"

    @property
    def computes(self) -> str:
        """The narrowest floating dtype that the module computes in."""
        return str(torch_computing.REDUCED.get(self.precision, self.dtype)).removeprefix("torch.")

    def in_full(self) -> TorchModel:
        """This model in the precision of its weights, uncompiled; itself if it is that."""
        return self if self.precision == "float32" else self._sharing(precision="float32", compile=False)

    def autocast(self) -> AbstractContextManager[Any]:
        """Inside, the module's forward pass runs in the precision of this model."""
        return torch_computing.autocast(self.device, self.precision)

    def predict(self, inputs: Inputs) -> Array:
        """Outputs (n, *out), class axis last."""
        return self._guarded(inputs, False, lambda: self._outputs(self._run(self._tensors(inputs, shared=True))))

    def device_backend(self) -> TorchBackend | None:
        """Where copies are masked and scored beside the module; None on a CPU, where NumPy is faster, and on what is not CUDA."""
        if self.device.type != "cuda":
            return None
        return TorchBackend(self.device, self.predict_there, self.dtype == torch.float64)

    def predict_there(self, inputs: list[Tensor]) -> Tensor:
        """Outputs as of `predict`, of channels-last tensors on the device, where they stay."""
        return self._guarded(inputs, False, lambda: self._outputs_there(inputs))

    def tensor_device(self) -> torch.device | None:
        """The device of the module; None on a CPU, where arrays are tensors without a copy."""
        return None if self.device.type == "cpu" else self.device

    def scores_there(self, inputs: list[Tensor], weights: Tensor, link: str) -> Tensor:
        """sum(link(outputs) · weights) (m,), of channels-last tensors on the device, where it stays."""
        return self._guarded(inputs, False, lambda: weighed(self._outputs_there(inputs), weights, link))

    def gradients_there(self, inputs: list[Tensor], weights: Tensor, link: str) -> tuple[Tensor, list[Tensor]]:
        """The same, and its gradient at each input, from one forward and one backward pass; zeros where none arrives."""

        def both() -> tuple[Tensor, list[Tensor]]:
            # A leaf of each, so that the gradients are those of these copies alone.
            own = [values.detach().clone().requires_grad_() for values in inputs]
            scores = weighed(self._outputs_there(own), weights, link)
            if not scores.requires_grad:
                return scores, [torch.zeros_like(values) for values in own]
            gradients = torch.autograd.grad(scores.sum(), own, allow_unused=True)
            return scores.detach(), [
                torch.zeros_like(values) if gradient is None else gradient
                for values, gradient in zip(own, gradients, strict=True)
            ]

        return self._guarded(inputs, True, both)

    def _outputs_there(self, inputs: list[Tensor]) -> Tensor:
        raw = self._run(self._arranged([values.to(self.dtype) for values in inputs]))
        last = raw.movedim(1, -1) if len(self.output_axes) > 1 else raw
        return last if last.dtype in (torch.float32, torch.float64) else last.float()

    def other_outputs(self, inputs: Inputs) -> dict[str, Array]:
        """What the module returns beside the tensor that counts: name or position → array, in its own axes."""

        def others() -> dict[str, Array]:
            returned, counts = self._returned(self._tensors(inputs, shared=True))
            every = {path: value for path, value in leaves(returned) if isinstance(value, Tensor)}
            return {path: to_array(value) for path, value in every.items() if value is not counts}

        return self._guarded(inputs, False, others)

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        """(outputs, gradient at each input), from one forward and one backward pass; zeros where none arrives."""

        def both() -> tuple[Array, list[Tensor | None]]:
            tensors = [t.requires_grad_() for t in self._tensors(inputs)]
            raw = self._run(tensors)
            outputs = self._outputs(raw)
            return outputs, self._gradients(raw, tensors, cotangent, outputs)

        outputs, gradients = self._guarded(inputs, True, both)
        return outputs, tuple(
            np.zeros(x.shape, outputs.dtype) if g is None else to_array(g.movedim(1, -1) if m.spatial else g)
            for m, x, g in zip(self.modalities, inputs, gradients, strict=True)
        )

    def exact(self) -> TorchModel | None:
        """This model as it is now, in float64, to measure with and to throw away; None where there is none."""
        with self._lock, torch.inference_mode(False):
            module = torch_running.float64_copy(self.module)
        if module is None:
            return None
        rounded: dict[str, Any] = {
            name: tuple(torch.tensor(v, dtype=self.dtype).double().tolist() for v in pair)
            for name, pair in self.standardise.items()
        }
        # With the constants that this model computes with.
        return self._around(module, standardise=rounded, precision="float32", compile=False)

    def other_threads(self) -> AbstractContextManager[None]:
        """The model computes in another number of threads inside, one or else two, which moves its answers by rounding alone."""
        return torch_threads(1 if torch.get_num_threads() > 1 else 2)

    def cut(self, inputs: Inputs) -> str:
        """Where the gradient of the outputs is lost on the way to the inputs, in words, as far as layers tell."""
        run = partial(self._run_differentiable, inputs)
        return self._guarded(inputs, True, lambda: torch_layers.cut(self.module, run))

    def fingerprint(self) -> tuple[Any, ...]:
        """Changes when layers are exchanged, or change their mode, or their dtype; not when weights take other values."""
        return tuple((id(m), *(v for v in vars(m).values() if v is True or v is False)) for m in self.module.modules())

    def hints(self) -> Mapping[str, Any]:
        """What the module shows of itself without a pass; see `torch_layers`."""
        return torch_layers.hints(self.module)

    def calls(self, inputs: Inputs) -> torch_running.Calls:
        """What the module calls in one forward pass; see `torch_running`."""
        with self._lock:
            return torch_running.record_calls(self.module, lambda: self.predict(inputs))

    def activations(self, inputs: Inputs, layers: Collection[str] | None = None) -> dict[str, Array]:
        """Of layers (or those named) that run exactly once per pass and give a tensor: name → activation, in its own order."""
        original = original_layers(self.module)
        wanted = None if layers is None else {original.get(name, name) for name in layers}
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

    def randomised(self, inputs: Inputs, depth: int, seed: int, alone: bool = False) -> TorchModel:
        """A copy with the parameters of the first `depth` layers of `weighted` drawn anew, or of the last of them alone.

        Running statistics are kept.
        """
        chosen = self._first_weights(inputs, depth, alone)
        with self._lock, torch.inference_mode(False):
            module = torch_running.randomised_copy(self.module, chosen, seed, self.name)
        return self._around(module)

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

    def _calibrate(self, inputs: Inputs) -> None:
        torch_running.calibrate(self.module, lambda: self.predict(inputs))

    def _trainer(self, inputs: Inputs) -> Step:
        weights = [w.requires_grad_() for w in self.module.parameters() if w.is_floating_point()]
        optimiser = torch.optim.Adam(weights, rate_of(map(to_array, weights)))

        def work(part: Inputs, cotangent: Cotangent) -> None:
            raw = self._run(self._tensors(part))
            if not raw.requires_grad:
                raise Unsupported(f"no gradient of model {self.name!r} reaches its weights: it is not trained anew")
            optimiser.zero_grad()
            torch.autograd.backward(raw, self._weighing(cotangent, self._outputs(raw)).to(raw.dtype))
            optimiser.step()

        return lambda part, cotangent: self._guarded(part, True, lambda: work(part, cotangent))

    def folded(self, inputs: Inputs) -> TorchModel:
        """A copy for scoring, batch norms folded, weights laid out channels last, and compiled if that is asked for; see
        `crossxai.model.Foldable`. Raises `InvalidInput` where it cannot be compiled."""
        return self._compiled(inputs) if self.compile else self._folded(inputs)

    def _folded(self, inputs: Inputs) -> TorchModel:
        with self._lock, torch.inference_mode(False), torch.no_grad(), torch_running.memory_errors():
            module = torch_running.folded_copy(self.module, lambda: self._graph(inputs), self.name)
            faster = self._around(module)
        require_same_outputs(
            self.in_full(), faster.in_full(), inputs
        )  # in less precision, rounding would hide a mistake
        return faster

    def _compiled(self, inputs: Inputs) -> TorchModel:
        """The compiled copy, kept as long as the module is as it was, since compiling takes up to minutes."""
        state = (self.fingerprint(), kind_of(inputs), torch_computing.weights_state(self.module))
        check = partial(
            torch_computing.compiled_difference, self, full=self.in_full(), inputs=inputs, backend=self.compile
        )
        if self._fast is not None and self._fast[0] == state:
            try:
                check(self._fast[1])
                return self._fast[1]
            except InvalidInput:  # something else changed, an attribute or a hook
                pass
        try:
            copy = self._folded(inputs)
        except Unsupported:  # nothing to fold
            copy = self._sharing()
        copy._forward = torch_computing.compiled(copy.module, self.compile)
        copy.compiled_difference = check(copy)
        self._fast = (state, copy)
        return copy

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

    def _around(self, module: nn.Module, **changed: Any) -> TorchModel:
        """The same declarations about another module, but for those that are given."""
        how = {"device": self.device, "precision": self.precision, "compile": self.compile}
        declared = {**self._declarations, **how, "layer_axes": self.layer_axes, **changed}
        return TorchModel(module, self.modalities, **declared)

    def _sharing(self, **changed: Any) -> TorchModel:
        """The same of the module itself, of which one pass is made at a time, whichever model asks for it."""
        other = self._around(self.module, **changed)
        other._lock, other._contiguous = self._lock, self._contiguous
        return other

    def _weights(self, inputs: Inputs) -> dict[str, list[str]]:
        with self._lock:
            return torch_running.weighted_layers(self.module, lambda: self.predict(tuple(v[:1] for v in inputs)))

    def _check_mode(self) -> None:
        if "eval" in vars(self.module):  # a module of torch.export: its mode was settled when it was exported
            return
        training = [name for name, m in self.module.named_modules() if torch_layers.training_matters(m)]
        if training:
            first, others = training[0] or "the module itself", " and others" if len(training) > 1 else ""
            raise InvalidInput(
                f"the module is in training mode ({first}{others}): dropout and "
                "batch norm would make every explanation random; write module.eval() first"
            )

    def _guarded(self, inputs: Sequence[Array | Tensor], gradients: bool, work: Callable[[], T]) -> T:
        """What `work` gives, one request at a time; what the module raises becomes an error of ours."""
        with (
            self._lock,
            torch.inference_mode(False),
            torch.set_grad_enabled(gradients),
            torch_running.eager(self.module) if self._forward is self.module else nullcontext(),
            torch_running.memory_errors(),
        ):
            try:
                return work()
            except CrossXAIError:
                raise
            except foreign() as error:
                words = str(error)
                if isinstance(error, torch.cuda.OutOfMemoryError) or torch_running.says_no_memory(words):
                    raise
                if "view size is not compatible" in words and not self._contiguous:
                    self._contiguous = True
                elif "Inference tensors cannot be saved" in words:
                    raise BrokenAssumption(
                        f"model {self.name!r} has weights that were made under torch.inference_mode(), so no gradient can "
                        f"be taken: load them outside of it; {WITHOUT_GRADIENTS}"
                    ) from error
                else:
                    raise model_failed(error, self.name, inputs) from error
            return self._guarded(inputs, gradients, work)

    def _tensors(self, inputs: Inputs, shared: bool = False) -> list[Tensor]:
        """shared: the tensors may be the arrays' own memory, which `_run` does not write to."""
        check_inputs(inputs, self.modalities, self.name)
        tensors = [
            torch.as_tensor(values, dtype=self.dtype, device=self.device)
            if shared and values.flags.writeable and min(values.strides, default=0) >= 0
            else torch.tensor(np.ascontiguousarray(values), dtype=self.dtype, device=self.device)
            for values in inputs
        ]
        return self._arranged(tensors)

    def _arranged(self, tensors: list[Tensor]) -> list[Tensor]:
        # The NCHW view of an NHWC tensor is torch's channels_last layout: no copy, and the faster one on a CPU.
        moved = [t.movedim(-1, 1) if m.spatial else t for m, t in zip(self.modalities, tensors, strict=True)]
        return [t.contiguous() for t in moved] if self._contiguous else moved

    def _returned(self, tensors: list[Tensor]) -> tuple[Any, Tensor]:
        """What the module returns, and the tensor of it that counts."""
        self._check_mode()
        raw = [
            (t - pair[0]) / pair[1] if pair else t.clone() for t, pair in zip(tensors, self._standardise, strict=True)
        ]
        with self.autocast():
            returned = self._forward(*raw)
        return returned, one_output(returned, self.output, self.output_axes, self.name, _shape)

    def _run(self, tensors: list[Tensor]) -> Tensor:
        outputs = self._returned(tensors)[1]
        outputs = outputs if self.precision == "float32" else outputs.float()
        return outputs.reshape(as_rows(tuple(outputs.shape), len(tensors[0]), self.output_axes, self.name))

    def _run_differentiable(self, inputs: Inputs) -> Tensor:
        return self._run([t.requires_grad_() for t in self._tensors(inputs)])

    def _run_replacing(self, inputs: Inputs, layer: str, function: Callable[[Tensor], Tensor]) -> Array:
        """Outputs when the layer's output passes through a function."""

        def run() -> Array:
            with self._replacing(layer, function):
                return self._outputs(self._run(self._tensors(inputs)))

        return self._guarded(inputs, False, run)

    def _outputs(self, raw: Tensor) -> Array:
        return to_array(raw.detach().movedim(1, -1) if len(self.output_axes) > 1 else raw.detach())

    def _gradients(self, raw: Tensor, at: list[Tensor], cotangent: Cotangent, outputs: Array) -> list[Tensor | None]:
        if not raw.requires_grad:
            return [None] * len(at)
        return list(torch.autograd.grad(raw, at, self._weighing(cotangent, outputs).to(raw.dtype), allow_unused=True))

    def _weighing(self, cotangent: Cotangent, outputs: Array) -> Tensor:
        weights = torch.tensor(cotangent(outputs), dtype=self.dtype, device=self.device)
        return weights.movedim(-1, 1) if len(self.output_axes) > 1 else weights

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


def _shape(value: Any) -> tuple[int | None, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None
