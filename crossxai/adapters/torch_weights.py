"""Copies of torch modules whose weights are drawn anew, from the output down."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from crossxai.adapters.redrawing import redrawn
from crossxai.errors import Unsupported

ITSELF = "(itself)"


def layers(module: nn.Module, run: Callable[[], object]) -> dict[str, list[str]]:
    """Layer → names of its parameters, the layer that `run` starts last first.

    Parameters of modules that never run as such, like the projections inside fused attention, belong to the module around them.
    """
    started: dict[str, None] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: Any) -> None:
            started.setdefault(name)

        return hook

    handles = [m.register_forward_pre_hook(record(name)) for name, m in module.named_modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, list[str]] = {name: [] for name in reversed(started)}
    for name, parameter in module.named_parameters():
        owner = name.rpartition(".")[0]
        while owner not in found:
            owner = owner.rpartition(".")[0]
        if parameter.is_floating_point():
            found[owner].append(name)
    return {name or ITSELF: parameters for name, parameters in found.items() if parameters}


def randomised(module: nn.Module, weights: dict[str, list[str]], seed: int, model: str) -> nn.Module:
    """A copy of the module in which these layers' parameters are drawn anew; the module itself stays as it is."""
    try:
        twin = copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise Unsupported(f"model {model!r} cannot be copied, so its weights cannot be drawn anew: {error}") from error
    parameters = dict(twin.named_parameters())
    with torch.no_grad():
        for layer, names in weights.items():
            for number, name in enumerate(names):
                values = redrawn(parameters[name].detach().double().cpu().numpy(), layer, number, seed)
                parameters[name].copy_(torch.from_numpy(values))
    return twin
