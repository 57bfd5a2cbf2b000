"""How attention shows in torch: what the tensors of one pass were computed from, and torch's two fused attentions computed step
by step, so that their probabilities exist and are part of the graph."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from crossxai.errors import Unsupported

INPUTS = 1
_COPIES = ("clone", "contiguous", "to", "_to_copy", "type", "type_as", "float", "double", "half", "bfloat16")


class Past(NamedTuple):
    """What a tensor was computed from, one bit each: INPUTS, and whatever else got a bit of its own.

    product: the bits of the products of matrices that no other such product has come after.
    """

    all: int = 0
    product: int = 0


@dataclass(frozen=True)
class Weights:
    """What is known of a softmax's result: the axis it sums to 1 over, the products it came from, when it was written."""

    axis: int
    product: int
    version: int


class Flow:
    """Knows of tensors as long as they live."""

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        self._past: MutableMapping[Tensor, Past] = WeakIdKeyDictionary()
        self._weights: MutableMapping[Tensor, Weights] = WeakIdKeyDictionary()
        for tensor in inputs:
            self._past[tensor] = Past(INPUTS)

    def past(self, *values: Any) -> Past:
        """What all tensors in these values were computed from."""
        every, product = 0, 0
        for tensor in tensors(values):
            past = self._past.get(tensor, Past())
            every, product = every | past.all, product | past.product
        return Past(every, product)

    def knows(self, tensor: Tensor) -> bool:
        """Whether it came out of a call that was seen."""
        return tensor in self._past

    def set(self, values: Any, past: Past) -> None:
        """All tensors in these values were computed from what `past` says."""
        for tensor in tensors(values):
            self._past[tensor] = past

    def softmax(self, result: Tensor, axis: int, product: int) -> None:
        """A softmax along an axis has given this."""
        self._weights[result] = Weights(axis % result.dim(), product, version(result))

    def weights(self, tensor: Tensor) -> Weights | None:
        """What is known of a softmax's result; None for any other tensor, and for one that was written to since."""
        known = self._weights.get(tensor)
        return known if known is not None and known.version == version(tensor) else None

    def same(self, name: str, before: Tensor, after: Tensor) -> bool:
        """Note that `after`, by the function of this name from a softmax's result, has the same numbers; else False."""
        known = self.weights(before)
        if known is None:
            return False
        axis = _axis(before, after, known.axis)
        if axis is None and name in _COPIES and after.shape == before.shape:
            axis = known.axis
        if axis is not None:
            self._weights[after] = Weights(axis, known.product, version(after))
        return axis is not None


def tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in nested sequences and mappings."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from tensors(tuple(values.values()))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from tensors(value)


def swapped(values: Any, old: Tensor, new: Tensor) -> Any:
    """The same nested sequences and mappings with one tensor in another's place."""
    if isinstance(values, Mapping):
        return {key: swapped(value, old, new) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)([swapped(value, old, new) for value in values])
    return new if values is old else values


def version(tensor: Tensor) -> int:
    """How often its memory has been written to; tensors of inference mode don't count."""
    return 0 if tensor.is_inference() else tensor._version


def _axis(before: Tensor, after: Tensor, axis: int) -> int | None:
    """Where an axis is in another view of the whole of a tensor; None if `after` is none, or merges or splits it."""
    if after.numel() != before.numel() or after.dtype != before.dtype or after.data_ptr() != before.data_ptr():
        return None
    size, step = before.shape[axis], before.stride(axis)
    places = [i for i in range(after.dim()) if after.shape[i] == size and after.stride(i) == step]
    return places[0] if len(places) == 1 else None


_MATRICES = {"matmul": 0, "__matmul__": 0, "__rmatmul__": 0, "bmm": 0, "mm": 0, "baddbmm": 1, "addmm": 1, "linear": 0}
_NAMES = (("input", "self", "tensor1", "batch1", "mat1"), ("other", "mat2", "weight", "tensor2", "batch2"))


@dataclass(frozen=True)
class Product:
    """Its tensors, a label for each of their axes, and the labels that the result has."""

    tensors: tuple[Tensor, ...]
    labels: tuple[str, ...]
    result: str

    def order(self, position: int, keys: int) -> tuple[int, ...] | None:
        """The axes of one tensor as (samples, heads …, queries, keys) if it mixes the others along its axis `keys`.

        None if `keys` is not summed over together with another tensor, or if not exactly one other axis is its own.
        """
        own = self.labels[position]
        others = set("".join(labels for i, labels in enumerate(self.labels) if i != position))
        if own[keys] in self.result or own[keys] not in others:
            return None
        queries = [axis for axis, label in enumerate(own) if label not in others and label in self.result]
        rest = [axis for axis, label in enumerate(own) if label in others and axis != keys]
        if len(queries) != 1 or len(rest) + 2 != len(own):
            return None
        return (*rest, *queries, keys)


def product(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Product | None:
    """What a call of the function of this name multiplies; None if it is no product of two or more tensors."""
    if name == "einsum":
        return _einsum(args)
    if name not in _MATRICES:
        return None
    given = list(args[_MATRICES[name] :][:2])
    for names in _NAMES[len(given) :]:
        given += [kwargs[key] for key in names if key in kwargs][:1]
    if len(given) != 2 or not all(isinstance(t, Tensor) and t.dim() >= 2 for t in given):
        return None
    left, right = reversed(given) if name == "__rmatmul__" else given
    batch = _batch(max(left.dim(), right.dim()) - 2)
    second = "dk" if name == "linear" else "kd"
    labels = (batch[len(batch) - left.dim() + 2 :] + "qk", batch[len(batch) - right.dim() + 2 :] + second)
    return Product((left, right), labels, batch + "qd")


def _einsum(args: tuple[Any, ...]) -> Product | None:
    equation, operands = args[0], args[1:]
    if len(operands) == 1 and isinstance(operands[0], Sequence):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or len(operands) < 2 or not all(isinstance(t, Tensor) for t in operands):
        return None
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:  # then the result has, in order, the labels that occur once
        result = "..." * ("..." in left) + "".join(sorted(c for c in set(left) - {",", "."} if left.count(c) == 1))
    wild = [t.dim() - len(term) + 3 for t, term in zip(operands, terms, strict=True) if "..." in term]
    batch = _batch(max(wild, default=0))
    labels = [
        term.replace("...", batch[len(batch) - (t.dim() - len(term) + 3) :])
        for t, term in zip(operands, terms, strict=True)
    ]
    return Product(tuple(operands), tuple(labels), result.replace("...", batch))


def _batch(count: int) -> str:
    """So many labels that no equation has."""
    return "".join(itertools.islice(map(chr, itertools.count(0x100)), count))


Keep = Callable[..., Tensor]  # records probabilities (…, queries, keys) and gives them back
_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


def multi_head(layer: str, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """What `F.multi_head_attention_forward` gives; keep gets (n, heads, queries, keys)."""
    bound = _MULTI_HEAD.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    _check(given, layer)
    query, key, value = _projected(given)
    logits = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    probabilities = keep(torch.softmax(_masked(logits, given), dim=-1), certain=True)
    mixed = (probabilities @ value).permute(2, 0, 1, 3).flatten(2)
    output = F.linear(mixed, given["out_proj_weight"], given["out_proj_bias"])
    if not given["need_weights"]:
        return output, None
    return output, probabilities.mean(dim=1) if given["average_attn_weights"] else probabilities.clone()


def scaled_dot_product(layer: str, keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What `F.scaled_dot_product_attention` gives; half precision is computed in float32, as its kernels do."""
    return _scaled(layer, keep, *args, **kwargs)


def _scaled(
    layer: str, keep: Keep, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    if dropout_p > 0:
        raise Unsupported(f"layer {layer!r} drops attention at random (dropout_p={dropout_p})")
    if enable_gqa:  # each head of the keys serves as many of the queries, in a row
        shared = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(shared, -3), value.repeat_interleave(shared, -3)
    exact = query.dtype if query.dtype == torch.float64 else torch.float32
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = query.to(exact) @ key.to(exact).transpose(-2, -1) * scale
    if is_causal:
        logits = _hidden(logits, torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1))
    if attn_mask is not None:  # here True is what takes part
        logits = _hidden(logits, ~attn_mask if attn_mask.dtype == torch.bool else attn_mask.to(exact))
    return keep(torch.softmax(logits, dim=-1)).to(value.dtype) @ value


def _check(given: Mapping[str, Any], layer: str) -> None:
    reasons = {
        "adds a learned key (add_bias_kv), a token of no stream": given["bias_k"] is not None,
        "adds an empty key (add_zero_attn), a token of no stream": given["add_zero_attn"],
        "is given keys of its own (static_k)": given["static_k"] is not None or given["static_v"] is not None,
        "takes one sample without its batch axis": given["query"].dim() != 3,
        "drops attention at random": given["training"] and given["dropout_p"] > 0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise Unsupported(f"layer {layer!r} {reason}")


def _projected(given: Mapping[str, Any]) -> list[Tensor]:
    """Query, key and value, each (n, heads, tokens, size); torch hands them over as (tokens, n, channels)."""
    if given["use_separate_proj_weight"]:
        weights = [given[f"{name}_proj_weight"] for name in ("q", "k", "v")]
    else:
        weights = list(given["in_proj_weight"].chunk(3))
    biases = [None] * 3 if given["in_proj_bias"] is None else given["in_proj_bias"].chunk(3)
    projected = [
        F.linear(given[name], weight, bias)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True)
    ]
    return [p.reshape(*p.shape[:2], given["num_heads"], -1).permute(1, 2, 0, 3) for p in projected]


def _masked(logits: Tensor, given: Mapping[str, Any]) -> Tensor:
    """Logits (n, heads, queries, keys) with masks applied: True, or -inf in a mask of numbers, hides a key."""
    mask, padding = given["attn_mask"], given["key_padding_mask"]
    if given["is_causal"] and padding is None and not given["need_weights"]:
        # The one case in which torch follows the hint and does not look at the mask.
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
    if mask is not None:
        logits = _hidden(logits, mask if mask.dim() == 2 else mask.view(logits.shape))
    return logits if padding is None else _hidden(logits, padding[:, None, None, :])


def _hidden(logits: Tensor, mask: Tensor) -> Tensor:
    return logits.masked_fill(mask, -math.inf) if mask.dtype == torch.bool else logits + mask
