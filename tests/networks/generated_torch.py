"""A drawn PyTorch network with what is true of it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from crossxai import Modality
from crossxai.adapters.torch import TorchModel
from networks import grammar
from networks.removing import Removing

NAME = "torch"
INT8 = 0.0
"""Quantised layers of torch have no gradient."""


class Drawn(Removing):
    """The network of a seed, wrapped, and its truths for two samples; changed after it was wrapped if that is its fault."""

    def __init__(self, seed: int) -> None:
        self.spec = grammar.draw(seed)
        self.net = grammar.network(self.spec)
        self.inputs = grammar.inputs(self.spec, 2)
        other = {"two": Modality.image("other"), "table": Modality.table(("a", "b", "c", "d"), "other")}
        self.modalities = (Modality.image(), *([] if self.spec.inputs == "one" else [other[self.spec.inputs]]))
        self.model = TorchModel(self.net, self.modalities, name=f"drawn {seed}")
        if self.spec.fault == "changed":
            self.model.predict(self.inputs)
            grammar.change(self.net, seed)
        self.exact = self.net if self.spec.fault == "int8" else copy.deepcopy(self.net).double()

    def _tensors(self, inputs: Any) -> list[Any]:
        wide = [v if self.spec.fault == "int8" else v.astype(np.float64) for v in inputs]
        return [torch.tensor(np.moveaxis(v, -1, 1).copy() if v.ndim == 4 else v) for v in wide]

    def scores(self, labels: Any, inputs: Any = None, rows: Any = None) -> Any:
        """Scores of copies of samples `rows`, in one batch: only asked of networks whose samples do not see each other."""
        given = self.inputs if inputs is None else inputs
        rows = np.arange(len(given[0])) if rows is None else rows
        with torch.no_grad():
            outputs = self.exact(*self._tensors(given)).numpy()
        return outputs[np.arange(len(rows)), labels[rows]].astype(np.float64)

    def gradients(self, labels: Any) -> dict[str, Any]:
        """Central differences at every entry."""
        found = {}
        for at, modality in enumerate(self.modalities):
            values = self.inputs[at].astype(np.float64)
            size = values[0].size
            steps = 1e-6 * np.eye(size).reshape(size, *values.shape[1:])
            slopes = []
            for row in range(2):
                ends = [
                    self.scores(
                        labels,
                        tuple(
                            v[row] + sign * steps if i == at else np.repeat(v[row : row + 1], size, 0)
                            for i, v in enumerate(self.inputs)
                        ),
                        np.full(size, row),
                    )
                    for sign in (1, -1)
                ]
                slopes.append(((ends[0] - ends[1]) / 2e-6).reshape(values.shape[1:]))
            found[modality.name] = np.stack(slopes)
        return found

    def cam(self, labels: Any, layer: str) -> Any:
        """Grad-CAM at a layer of the image's encoder, whose layout the grammar knows, by the network without its fault."""
        own = self.spec.fault in ("", "changed", "unused", "rounded")
        net: Any = self.exact if own else grammar.network(self.spec.healthy).double()
        kind, prefix = net.image.layouts[layer.split(".")[1]]
        seen: list[Any] = []

        def keep(_module: Any, _inputs: Any, output: Any) -> Any:
            seen.append(output.detach().clone().requires_grad_())
            return seen[0].clone()

        handle = dict(net.named_modules())[layer].register_forward_hook(keep)
        outputs = net(*self._tensors(self.inputs))
        handle.remove()
        score = outputs[torch.arange(2), torch.tensor(labels)].sum()
        activation, (gradient,) = seen[0].detach(), torch.autograd.grad(score, seen)
        if kind == "tokens":
            side = int((activation.shape[1] - prefix) ** 0.5)
            activation, gradient = (v[:, prefix:].reshape(2, side, side, -1) for v in (activation, gradient))
        elif kind == "nchw":
            activation, gradient = (v.permute(0, 2, 3, 1) for v in (activation, gradient))
        raw = torch.relu((activation * gradient.mean(dim=(1, 2), keepdim=True)).sum(-1))
        size = (grammar.SIZE, grammar.SIZE)
        return torch.nn.functional.interpolate(raw[:, None], size, mode="bilinear", align_corners=False)[:, 0].numpy()
