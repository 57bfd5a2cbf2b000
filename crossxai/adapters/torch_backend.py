"""Masking and scoring copies where a torch module runs; see `crossxai.devices.DeviceBackend`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossxai.adapters.torch_running import memory_errors, to_array
from crossxai.batching import Clock
from crossxai.devices import PAIR, CopyParts, Factor
from crossxai.model import Array
from crossxai.target import require_out

LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda outputs: outputs,
    "softmax": lambda outputs: torch.softmax(outputs, dim=-1),
    "sigmoid": torch.sigmoid,
}


class TorchBackend:
    """A device, and a module on it. predict: channels-last tensors → outputs, class axis last; double: it runs in float64."""

    def __init__(self, device: torch.device, predict: Callable[[list[Tensor]], Tensor], double: bool) -> None:
        self.device, self._predict, self._double = device, predict, double

    @property
    def clock(self) -> Clock | None:
        """That of CUDA."""
        return _Events(self.device) if self.device.type == "cuda" else None

    def put(self, values: npt.NDArray[Any]) -> Tensor:
        """An array there. It crosses from pinned memory, which torch keeps until it has crossed, so nothing waits."""
        dtype = np.float32 if values.dtype == np.float64 and not self._double else values.dtype
        with memory_errors():
            kind = torch.from_numpy(np.empty(0, dtype)).dtype
            host = torch.empty(values.shape, dtype=kind, pin_memory=self.device.type == "cuda")
            host.numpy()[...] = values
            return host.to(self.device, non_blocking=True)

    def ranks(self, values: Tensor, ties: Tensor) -> Tensor:
        """Places in descending order, int32; see `DeviceBackend`."""
        with memory_errors(), torch.no_grad():
            flat = values.flatten()[ties] + 0.0  # -0 becomes 0, to which it is equal
            order = ties[torch.argsort(flat, descending=True, stable=True)].long()
            places = torch.arange(len(order), dtype=torch.int32, device=self.device)
            return torch.empty_like(places).scatter_(0, order, places).reshape(values.shape)

    def blurred(self, values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """values multiplied by matrices, in float64, since float32 may be TF32."""
        with memory_errors(), torch.no_grad():
            exact = values.double()
            for axis, matrix in enumerate(matrices):
                exact = torch.tensordot(matrix.double(), exact, dims=([1], [axis])).movedim(0, axis)
            return exact.to(values.dtype).contiguous()

    def mask(self, copies: Tensor, parts: list[CopyParts]) -> list[Tensor]:
        """Masked copies; see `DeviceBackend`."""
        which, end, bit = copies[:, 0], copies[:, 1], copies[:, 2]
        with memory_errors(), torch.no_grad():
            return [_masked(own, which, end, bit, copies[:, 3 + place]) for place, own in enumerate(parts)]

    def hide(self, samples: Sequence[Tensor], which: Tensor, factors: Sequence[Factor], fill: Tensor) -> Tensor:
        """Copies of some samples; see `DeviceBackend`."""
        with memory_errors(), torch.no_grad():
            values = torch.stack(list(samples))[which]
            hidden = [table[rows][:, numbers] != 0 for numbers, table, rows in factors]
            return torch.where(reduce(torch.logical_and, hidden), fill.to(values.dtype), values) if hidden else values

    def smooth_masks(
        self, patterns: Tensor, corners: Tensor, matrices: Sequence[Tensor], space: Sequence[int]
    ) -> Tensor:
        """Parts of enlarged patterns, computed in float64, since float32 may be TF32; see `DeviceBackend`."""
        with memory_errors(), torch.no_grad():
            masks = patterns.double()
            for axis, (matrix, size) in enumerate(zip(matrices, space, strict=True)):
                rows = corners[:, axis, None].long() + torch.arange(size, device=self.device)
                moved = masks.movedim(1 + axis, 1)
                enlarged = matrix.double()[rows] @ moved.flatten(2)
                masks = enlarged.reshape(len(rows), size, *moved.shape[2:]).movedim(1, 1 + axis)
            return masks.to(patterns.dtype)

    def dim(self, sample: Tensor, masks: Tensor, fill: Tensor) -> Tensor:
        """Copies of one sample; see `DeviceBackend`."""
        with memory_errors(), torch.no_grad():
            return masks[..., None] * sample + (1 - masks[..., None]) * fill.to(sample.dtype)

    def weigh(self, masks: Tensor, scores: Tensor) -> Tensor:
        """Masks weighted by scores; see `DeviceBackend`."""
        with memory_errors(), torch.no_grad():
            return (masks * scores.reshape(-1, *[1] * (masks.ndim - 1)).to(masks.dtype)).sum(dim=0, dtype=torch.float64)

    def predict(self, inputs: list[Tensor]) -> Tensor:
        """The module's outputs, class axis last."""
        return self._predict(inputs)

    def score(self, outputs: Tensor, copies: Tensor, weights: list[Tensor], link: str) -> Tensor:
        """Scores (m,); see `DeviceBackend`."""
        with memory_errors(), torch.no_grad():
            return weighed(outputs, torch.stack(weights)[copies[:, 0]], link)

    def take(self, tensors: list[Tensor]) -> Array:
        """All numbers of tensors on the host; the one place that waits for the device."""
        with memory_errors():
            return to_array(torch.cat([tensor.flatten() for tensor in tensors]))


def weighed(outputs: Tensor, weights: Tensor, link: str) -> Tensor:
    """Scores (m,): sum(link(outputs) · weights), both (m, *out)."""
    require_out(tuple(outputs.shape[1:]), tuple(weights.shape[1:]))
    return (LINKS[link](outputs) * weights.to(outputs.dtype)).flatten(1).sum(dim=1)


def _masked(parts: CopyParts, which: Tensor, end: Tensor, bit: Tensor, pair: Tensor) -> Tensor:
    values = torch.stack(parts.samples)[which]
    if not parts.ranks:
        return values

    def along(numbers: Tensor) -> Tensor:
        return numbers.reshape(-1, *[1] * (values.ndim - 1))

    numbered = pair.clamp(min=0)
    ranks = _stacked(parts.ranks)[numbered % PAIR]
    fills = _stacked(parts.fills)[numbered // PAIR]
    inserts = end < 0
    below = ranks < along(torch.where(inserts, -1 - end, end))
    among = (ranks >> along(bit.clamp(min=0))) & 1 == 1
    hidden = torch.where(along(bit < 0), below, among) ^ along(inserts)
    return torch.where(hidden & along(pair >= 0), fills, values)


def _stacked(tensors: list[Tensor]) -> Tensor:
    shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return torch.stack([tensor.expand(shape) for tensor in tensors])


class _Events:
    """Events in a CUDA stream, which tell afterwards when the device came by."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)

    def mark(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event

    def seconds(self, marks: list[Any]) -> list[float]:
        marks[-1].synchronize()
        return [one.elapsed_time(next_) / 1000 for one, next_ in pairwise(marks)]
