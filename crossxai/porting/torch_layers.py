"""The modules of a rebuilt network that torch has as functions only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x - mean) / sd, by buffers of the shape that x needs."""

    mean: Tensor
    sd: Tensor

    def __init__(self, mean: Tensor, sd: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.sd


def without(module: Any, *weights: str) -> Any:
    """A norm that has not all of the weights that its kind is made with."""
    for name in weights:
        module.register_parameter(name, None)
    return module


class Constant(nn.Module):
    """The same values for every sample of x; trains: training may change them."""

    values: Tensor

    def __init__(self, values: Tensor, trains: bool = True) -> None:
        super().__init__()
        if trains:
            self.values = nn.Parameter(values[None])
        else:
            self.register_buffer("values", values[None])

    def forward(self, x: Tensor) -> Tensor:
        return self.values.expand(x.shape[0], *self.values.shape[1:])


class Scale(nn.Module):
    """x times values of a shape that it broadcasts to; trains: training may change them."""

    scale: Tensor

    def __init__(self, scale: Tensor, trains: bool = True) -> None:
        super().__init__()
        if trains:
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Affine(nn.Module):
    """x * factor + term."""

    def __init__(self, factor: float, term: float) -> None:
        super().__init__()
        self.factor, self.term = factor, term

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.term

    def extra_repr(self) -> str:
        return f"{self.factor}, {self.term}"


class Add(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


class Subtract(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left - right


class Multiply(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left * right


class Divide(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left / right


class Maximum(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.maximum(left, right)


class Minimum(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.minimum(left, right)


class Concatenate(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, self.axis)


class Einsum(nn.Module):
    """A sum of products, torch.einsum: matrix products, the scores of attention and what they weigh."""

    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.einsum(self.equation, left, right)

    def extra_repr(self) -> str:
        return self.equation


class Attention(nn.MultiheadAttention):
    """Multi-head attention that returns what it attended to, unfused, so that it has second derivatives. mask: added to
    the scores, (t, s) or (heads, t, s)."""

    mask: Tensor | None

    def __init__(self, *args: Any, mask: Tensor | None = None, **named: Any) -> None:
        super().__init__(*args, **named)
        self.register_buffer("mask", mask)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # type: ignore[override]
        mask = self.mask
        if mask is not None and mask.ndim == 3:
            mask = mask.repeat(len(query), 1, 1)
        return super().forward(query, key, value, need_weights=True, attn_mask=mask)[0]


class FreeAttention(nn.Module):
    """Multi-head attention whose heads may have any width, those of the values another than those of the keys. mask: as above."""

    mask: Tensor | None

    def __init__(
        self, heads: int, query: nn.Linear, key: nn.Linear, value: nn.Linear, output: nn.Linear, dropout: float = 0.0,
        mask: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.output = query, key, value, output
        self.register_buffer("mask", mask)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        scores = scores if self.mask is None else scores + self.mask
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        return self.output((weights @ v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FreePReLU(nn.PReLU):
    """PReLU with a slope of any shape, where torch's own has one per channel."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(slope)

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.weight * x)


class Function(nn.Module):
    """A function of torch's with these arguments after x."""

    def __init__(self, function: Callable[..., Tensor], **settings: Any) -> None:
        super().__init__()
        self.function, self.settings = function, settings

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.settings)

    def extra_repr(self) -> str:
        return ", ".join([self.function.__name__, *(f"{k}={v}" for k, v in self.settings.items())])


class Permute(nn.Module):
    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)

    def extra_repr(self) -> str:
        return str(self.axes)


class Reshape(nn.Module):
    """All axes but the first, which is what remains."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.shape)

    def extra_repr(self) -> str:
        return str(self.shape)


class Slice(nn.Module):
    def __init__(self, axis: int, start: int, stop: int, step: int) -> None:
        super().__init__()
        self.axis, self.part = axis, slice(start, stop, step)

    def forward(self, x: Tensor) -> Tensor:
        return x[(slice(None),) * self.axis + (self.part,)]

    def extra_repr(self) -> str:
        return f"axis={self.axis}, {self.part.start}:{self.part.stop}:{self.part.step}"


class Take(nn.Module):
    indices: Tensor

    def __init__(self, axis: int, indices: Sequence[int]) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("indices", torch.tensor(indices))

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(self.axis, self.indices)


class Embed(nn.Embedding):
    """An embedding of whole numbers that come as floating-point ones, as all inputs do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.long())


class Interpolate(nn.Module):
    """Linear interpolation along the axes of space, at any places: a matrix per axis."""

    def __init__(self, matrices: Sequence[Tensor]) -> None:
        super().__init__()
        for i, matrix in enumerate(matrices):
            self.register_buffer(f"matrix{i}", matrix)

    def forward(self, x: Tensor) -> Tensor:
        for i, matrix in enumerate(self.buffers()):
            x = torch.tensordot(x, matrix, ([i + 2], [1])).movedim(-1, i + 2)
        return x


class AvgPool(nn.Module):
    """Means over the pixels of each window that lie in the image: padded sums by how many they are."""

    def __init__(self, pool: Callable[..., Tensor], pads: Sequence[int]) -> None:
        super().__init__()
        self.pool, self.pads = pool, tuple(pads)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.pad(x, self.pads)) / self.pool(F.pad(torch.ones_like(x[:1, :1]), self.pads))


class DropTogether(nn.Module):
    """Dropout in which one draw stands for all of these axes: whole channels, or all of a sample, which is stochastic depth."""

    def __init__(self, p: float, axes: Sequence[int]) -> None:
        super().__init__()
        self.p, self.axes = p, tuple(axes)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        draws = x.new_ones([1 if axis in self.axes else size for axis, size in enumerate(x.shape)])
        return x * F.dropout(draws, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}, axes={self.axes}"


class FlattenChannelsLast(nn.Module):
    """An image in a row as channels-last frameworks lay it out, which is what the dense layer after it was trained on."""

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1).flatten(1)
