"""PyTorch models behind the protocols of `crossxai.model`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from crossxai.adapters import torch_computing, torch_running
from crossxai.adapters.retraining import Step, rate_of
from crossxai.adapters.torch_layered import LayeredNetwork
from crossxai.adapters.torch_running import to_array
from crossxai.assumptions.facts import kind_of
from crossxai.errors import InvalidInput, Unsupported
from crossxai.model import Cotangent, Inputs
from crossxai.porting.certificate import require_same_outputs


class TorchModel(LayeredNetwork):
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

    _fast: tuple[Any, TorchModel] | None = None  # the compiled copy, and the state that it is of

    def in_full(self) -> TorchModel:
        """This model in the precision of its weights, uncompiled; itself if it is that."""
        return self if self.precision == "float32" else self._sharing(precision="float32", compile=False)

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

    def randomised(self, inputs: Inputs, depth: int, seed: int, alone: bool = False) -> TorchModel:
        """A copy with the parameters of the first `depth` layers of `weighted` drawn anew, or of the last of them alone.

        Running statistics are kept.
        """
        chosen = self._first_weights(inputs, depth, alone)
        with self._lock, torch.inference_mode(False):
            module = torch_running.randomised_copy(self.module, chosen, seed, self.name)
        return self._around(module)

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
