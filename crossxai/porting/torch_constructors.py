"""The Python expressions that make the layers of a rebuilt torch network."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from crossxai.errors import Unsupported
from crossxai.porting import torch_layers as ours


def is_ours(module: nn.Module) -> bool:
    return not type(module).__module__.startswith("torch.nn.")


def named(function: Any) -> str:
    """A function of torch's by its name."""
    name = function.__name__
    for place, module in (("torch", torch), ("F", nn.functional)):
        if getattr(module, name, None) is function:
            return f"{place}.{name}"
    raise Unsupported(f"the function {name} cannot be written as Python: it is none of torch's")


def constructor(module: nn.Module) -> str:
    """The expression that makes a module; its weights come from the state_dict."""
    if type(module) is nn.Sequential:
        return f"nn.Sequential({', '.join(constructor(part) for part in module)})"
    prefix = "" if is_ours(module) else "nn."
    special = MADE_WITH.get(type(module), _arguments)
    made = f"{prefix}{type(module).__name__}({', '.join(special(module))})"
    missing = missing_weights(module)
    return f"without({', '.join([made, *map(repr, missing)])})" if missing else made


def missing_weights(module: nn.Module) -> list[str]:
    """What a norm that is made with weights has not of them."""
    if not (getattr(module, "affine", False) or getattr(module, "elementwise_affine", False)):
        return []
    gone: list[str] = [
        name for name in ("weight", "bias") if name in module._parameters and module._parameters[name] is None
    ]
    return [] if type(module) is nn.LayerNorm and gone == ["bias"] else gone  # which it says in its arguments


def _of_attention(module: Any) -> list[str]:
    named = {"bias": module.in_proj_bias is not None, "kdim": module.kdim, "vdim": module.vdim, "batch_first": True}
    named |= {"dropout": module.dropout} if module.dropout else {}
    named |= {} if module.mask is None else {"mask": literal(module.mask)}
    return [str(module.embed_dim), str(module.num_heads), *(f"{name}={value}" for name, value in named.items())]


def _frozen(values: Tensor) -> list[str]:
    return [] if isinstance(values, nn.Parameter) else ["trains=False"]


MADE_WITH: dict[type[nn.Module], Any] = {
    ours.Attention: _of_attention,
    ours.Constant: lambda m: [literal(m.values[0]), *_frozen(m.values)],
    ours.Scale: lambda m: [literal(m.scale), *_frozen(m.scale)],
    ours.FreePReLU: lambda m: [literal(m.weight)],
    ours.Take: lambda m: [str(m.axis), str(m.indices.tolist())],
    ours.Interpolate: lambda m: [f"[{', '.join(literal(matrix) for matrix in m.buffers())}]"],
    ours.AvgPool: lambda m: [literal(m.pool), literal(m.pads)],
}
"""Of layers that do not keep each argument under its name: what they were made with."""
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _arguments(module: nn.Module) -> Iterator[str]:
    """What a module was made with, as far as it is not the default: torch's modules keep each argument under its name."""
    for place, parameter in enumerate(inspect.signature(type(module)).parameters.values()):
        if parameter.name in ("device", "dtype", "inplace") or parameter.kind in VARIABLE:
            continue
        if parameter.name == "bias" and hasattr(module, "affine"):
            continue  # which older versions of torch have not; see `missing_weights`
        value = getattr(module, parameter.name, parameter.default)
        if parameter.name == "bias" and not isinstance(value, bool):
            value = value is not None
        if value is inspect.Parameter.empty:
            raise Unsupported(
                f"{type(module).__name__} cannot be written as Python: it does not keep its argument {parameter.name!r}"
            )
        if _same(value, parameter.default):
            continue
        shown = literal(value)
        positional = parameter.default is inspect.Parameter.empty and place < 2
        yield shown if positional else f"{parameter.name}={shown}"


def _same(value: Any, default: Any) -> bool:
    """Whether a value is its argument's default; modules keep a number for all axes as one number per axis."""
    if isinstance(value, tuple) and isinstance(default, int | float) and not isinstance(default, bool):
        return all(v == default for v in value)
    return type(value) is type(default) and bool(value == default)


def literal(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"torch.zeros({tuple(value.shape)})"
    if isinstance(value, nn.Module):
        return constructor(value)
    if isinstance(value, partial):
        settings = [*map(literal, value.args), *(f"{name}={literal(v)}" for name, v in value.keywords.items())]
        return f"partial({named(value.func)}, {', '.join(settings)})"
    if isinstance(value, tuple | list):
        inner = ", ".join(literal(v) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    raise Unsupported(f"a {type(value).__name__} cannot be written as Python")
