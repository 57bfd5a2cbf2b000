"""A copy of a torch module in float64, to measure with and to throw away."""

from __future__ import annotations

import copy

import torch
from torch import nn

from crossxai.adapters.checks import LARGEST_COPY
from crossxai.process import foreign


def exact(module: nn.Module) -> nn.Module | None:
    """A copy of the module in float64; None where there can be none.

    There is none of TorchScript, exported, compiled and quantised modules, and of what `copy.deepcopy` or the device refuses.
    """
    if isinstance(module, torch.jit.ScriptModule) or "eval" in vars(module):
        return None
    if any(hasattr(m, "_orig_mod") or "quantized" in type(m).__module__ for m in module.modules()):
        return None
    if 8 * sum(w.numel() for ws in (module.parameters(), module.buffers()) for w in ws) > LARGEST_COPY:
        return None
    raised: tuple[type[Exception], ...] = (MemoryError, *foreign())
    try:
        return copy.deepcopy(module).double()
    except raised:
        return None
