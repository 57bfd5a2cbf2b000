"""A torch module that is run: scores, gradients, and what is wrong with it in words; the only place that turns channels-last
arrays into NCHW."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.adapters import torch_computing, torch_layers, torch_running
from crossxai.adapters.checks import (
    WITHOUT_GRADIENTS,
    MeanSd,
    Precision,
    as_rows,
    check_inputs,
    model_failed,
    one_output,
)
from crossxai.adapters.describing import Declared
from crossxai.adapters.returned import leaves
from crossxai.adapters.torch_backend import TorchBackend, weighed
from crossxai.adapters.torch_running import to_array
from crossxai.attention import Streams
from crossxai.errors import BrokenAssumption, CrossXAIError, InvalidInput
from crossxai.model import Array, Cotangent, Inputs, Modality
from crossxai.outputs import Outputs
from crossxai.process import foreign, torch_threads

T = TypeVar("T")


class TorchNetwork(Declared):
    """What `TorchModel` runs its module by."""

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

    def other_threads(self) -> AbstractContextManager[None]:
        """The model computes in another number of threads inside, one or else two, which moves its answers by rounding alone."""
        return torch_threads(1 if torch.get_num_threads() > 1 else 2)

    def fingerprint(self) -> tuple[Any, ...]:
        """Changes when layers are exchanged, or change their mode, or their dtype; not when weights take other values."""
        return tuple((id(m), *(v for v in vars(m).values() if v is True or v is False)) for m in self.module.modules())

    def hints(self) -> Mapping[str, Any]:
        """What the module shows of itself without a pass; see `torch_layers`."""
        return torch_layers.hints(self.module)

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

    def _outputs(self, raw: Tensor) -> Array:
        return to_array(raw.detach().movedim(1, -1) if len(self.output_axes) > 1 else raw.detach())

    def _gradients(self, raw: Tensor, at: list[Tensor], cotangent: Cotangent, outputs: Array) -> list[Tensor | None]:
        if not raw.requires_grad:
            return [None] * len(at)
        return list(torch.autograd.grad(raw, at, self._weighing(cotangent, outputs).to(raw.dtype), allow_unused=True))

    def _weighing(self, cotangent: Cotangent, outputs: Array) -> Tensor:
        weights = torch.tensor(cotangent(outputs), dtype=self.dtype, device=self.device)
        return weights.movedim(-1, 1) if len(self.output_axes) > 1 else weights


def _shape(value: Any) -> tuple[int | None, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None
