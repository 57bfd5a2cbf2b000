"""What a torch module shows of itself without a pass: norms as they were made, layers that work in place, constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

PLAIN = (nn.ReLU, nn.ReLU6, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Identity, nn.Flatten, nn.Hardtanh, nn.LeakyReLU)
"""Layers that compute the same in training mode."""


def hints(module: nn.Module) -> Mapping[str, Any]:
    """ "norms": how many batch norms there are; "fresh norms": those that never saw a batch and were never trained; "in place":
    names of layers that overwrite what they are given; "hooked": names of layers with hooks of someone else; "normalising": name
    → (mean, sd) of layers that standardise by constants, averaged over channels."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    return {
        "norms": len(norms),
        "fresh norms": sum(_fresh(norm) for norm in norms),
        "in place": [name for name, m in module.named_modules() if getattr(m, "inplace", False)],
        "normalising": {name: pair for name, m in module.named_modules() if (pair := _constants(m)) is not None},
        "hooked": [
            name or "the module itself"
            for name, m in module.named_modules()
            if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        ],
    }


def _constants(module: nn.Module) -> tuple[float, float] | None:
    """The mean and sd that a module subtracts and divides by, told by what it calls them; None if it holds no such numbers."""
    for mean, sd in (("mean", "std"), ("pixel_mean", "pixel_std"), ("image_mean", "image_std")):
        pair = [getattr(module, name, None) for name in (mean, sd)]
        if all(isinstance(v, torch.Tensor | list | tuple | float | int) for v in pair):
            numbers = [torch.as_tensor(v, dtype=torch.float64).flatten() for v in pair]
            if all(0 < n.numel() <= 4 for n in numbers) and not any(
                p.requires_grad for p in pair if isinstance(p, torch.Tensor)
            ):
                return float(numbers[0].mean()), float(numbers[1].mean())
    return None


def matters(module: nn.Module) -> bool:
    """Whether a module is in training mode, and may compute otherwise because of it.

    Quantised leaves, which torch makes in training mode, and plain activations do not.
    """
    if not getattr(module, "training", False):
        return False
    return not (type(module) in PLAIN or type(module).__module__.startswith("torch.ao.nn.quantized"))


def _fresh(norm: Any) -> bool:
    tracked = norm.num_batches_tracked is not None and int(norm.num_batches_tracked) > 0
    moved = bool(torch.any(norm.running_mean != 0)) or bool(torch.any(norm.running_var != 1))
    scaled = norm.affine and bool(torch.any(norm.weight != 1) or torch.any(norm.bias != 0))
    return not (tracked or moved or scaled)
