"""Copies of torch modules: in float64 to measure with, with batch norms folded to score faster, with weights drawn anew."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from crossxai.adapters.checks import LARGEST_COPY, redrawn
from crossxai.errors import Unsupported
from crossxai.porting.graph import Graph, foldable_norms
from crossxai.process import foreign


def float64_copy(module: nn.Module) -> nn.Module | None:
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


def folded_copy(module: nn.Module, trace: Callable[[], Graph], model: str) -> nn.Module:
    """A copy in which every convolution takes over the batch norm after it, where the graph says that nothing comes between.

    trace: gives the graph; called only if there may be something to fold.
    """
    nothing = f"model {model!r} has no batch norm behind a convolution, so there is nothing to fold"
    leaves = {
        path: m for path, m in module.named_modules() if type(m) in (nn.Conv2d, nn.BatchNorm2d) and not _hooked(m)
    }
    if {type(m) for m in leaves.values()} != {nn.Conv2d, nn.BatchNorm2d}:
        raise Unsupported(nothing)
    graph = trace()
    paths = {graph.layers[path]: path for path in leaves if path in graph.layers}
    wanted = [
        (paths[conv], paths[norm]) for norm, conv in foldable_norms(graph).items() if conv in paths and norm in paths
    ]
    if not wanted:
        raise Unsupported(nothing)
    try:
        twin = copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise Unsupported(f"model {model!r} cannot be copied, so its batch norms stay: {error}") from error
    for conv, norm in wanted:
        before, after = twin.get_submodule(conv), twin.get_submodule(norm)
        assert isinstance(before, nn.Conv2d)
        assert isinstance(after, nn.BatchNorm2d)
        twin.set_submodule(conv, fuse_conv_bn_eval(before, after))
        twin.set_submodule(norm, nn.Identity().eval())
    return twin.to(memory_format=torch.channels_last)


def _hooked(module: nn.Module) -> bool:
    """Someone wants to see or change what this layer does: it stays as it is."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


ITSELF = "(itself)"


def weighted_layers(module: nn.Module, run: Callable[[], object]) -> dict[str, list[str]]:
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
    owned: dict[str, list[str]] = {name: [] for name in reversed(started)}
    for name, parameter in module.named_parameters():
        owner = name.rpartition(".")[0]
        while owner not in owned:
            owner = owner.rpartition(".")[0]
        if parameter.is_floating_point():
            owned[owner].append(name)
    return {name or ITSELF: parameters for name, parameters in owned.items() if parameters}


def randomised_copy(module: nn.Module, weights: dict[str, list[str]], seed: int, model: str) -> nn.Module:
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
