"""Copies of torch modules for scoring: batch norms folded into the convolutions before them, weights laid out channels last."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from crossxai.errors import Unsupported
from crossxai.porting.folding import pairs
from crossxai.porting.graph import Graph


def folded(module: nn.Module, trace: Callable[[], Graph], model: str) -> nn.Module:
    """A copy in which every convolution takes over the batch norm after it, where the graph says that nothing comes between.

    trace: gives the graph; asked only if there may be something to fold.
    """
    nothing = f"model {model!r} has no batch norm behind a convolution, so there is nothing to fold"
    leaves = {
        path: m for path, m in module.named_modules() if type(m) in (nn.Conv2d, nn.BatchNorm2d) and not _hooked(m)
    }
    if {type(m) for m in leaves.values()} != {nn.Conv2d, nn.BatchNorm2d}:
        raise Unsupported(nothing)
    graph = trace()
    paths = {graph.layers[path]: path for path in leaves if path in graph.layers}
    wanted = [(paths[conv], paths[norm]) for norm, conv in pairs(graph).items() if conv in paths and norm in paths]
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
