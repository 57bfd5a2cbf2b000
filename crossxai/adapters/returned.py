"""What a network returns where it is several tensors: a nesting of dicts, lists and tuples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def entries(value: Any) -> list[tuple[Any, Any]] | None:
    """(name or position, what is there) of a dict, a list, a (named) tuple or a dataclass; None for anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    return list(enumerate(value)) if isinstance(value, list | tuple) else None


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What a nesting holds, by name or position: "logits", "1", "aux.0"; a value that is no nesting has the path it came by."""
    inner = entries(value)
    if inner is None:
        yield path, value
        return
    for name, part in inner:
        yield from leaves(part, f"{path}.{name}" if path else str(name))


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """The same nesting of what a function makes of its leaves, without those that it makes None of. Named tuples and dataclasses
    become dicts: no other file knows their classes."""
    inner = entries(value)
    if inner is None:
        return function(value)
    parts = [(name, made) for name, part in inner if (made := mapped(part, function)) is not None]
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return (list if isinstance(value, list) else tuple)(part for _, part in parts)
    return dict(parts)


def tensors_of(value: Any, function: Callable[[Any], Any]) -> Any:
    """`mapped`, but a list or tuple that holds one tensor is that tensor: Keras gives no such list."""
    made = mapped(value, function)
    alone = isinstance(made, list | tuple) and len(made) == 1 and entries(made[0]) is None
    return made[0] if alone else made


def path_of(nesting: Any, leaf: str) -> str:
    """Where a leaf is in a nesting; "" where the nesting is the leaf itself."""
    return next(path for path, other in leaves(nesting) if other == leaf)
