"""The symbols that a module's own code sees while it is read, and what it returns of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

from crossxai.adapters.returned import leaves, tensors_of
from crossxai.errors import Unsupported


class Sized(fx.Proxy):
    """A symbol that gives its size in numbers, since the graph is for the sizes at hand."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, value: Tensor) -> None:
        super().__init__(node, tracer)
        self.shape, self.dtype, self.device, self.ndim = value.shape, value.dtype, value.device, value.ndim
        self.is_nested = self.is_cuda = self.is_sparse = self.requires_grad = False

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return self.shape.numel()

    def __len__(self) -> int:
        return self.shape[0]


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of a tensor, or of the symbol of one; None for anything else."""
    return tuple(value.shape) if isinstance(value, Tensor | Sized) else None


class Several(fx.Proxy):
    """A symbol of a tuple of tensors, which knows how many they are."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, value: Any) -> None:
        super().__init__(node, tracer)
        self.length = len(value)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Any:
        return iter([self[i] for i in range(self.length)])  # type: ignore[index]


def ends(choose: Callable[[Any], Any], whole: bool, returned: Any) -> tuple[Any, Any]:
    """The symbol that counts, and with `whole` the nesting of all; what is no tensor is left out."""
    returned = tuple(returned) if isinstance(returned, Several) else returned
    chosen = choose(returned)
    if not whole:
        return chosen, None
    constant = [path for path, value in leaves(returned) if isinstance(value, Tensor)]
    if constant:
        raise Unsupported(f"output {constant[0]!r} of the network depends on no input: a port returns what does")
    return chosen, tensors_of(returned, lambda value: value if isinstance(value, Sized) else None)
