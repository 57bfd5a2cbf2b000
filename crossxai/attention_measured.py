"""What is measured of a transformer's tokens: where they are in the image, and which of them the output is read at."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from crossxai.attention import AttentionMap, Streams, Tokens, declared, undeclared
from crossxai.errors import BrokenAssumption, Unsupported
from crossxai.model import Array, Attentive
from crossxai.question import Question

CELLS = 4
_KNOWN: weakref.WeakKeyDictionary[Any, dict[tuple[int, ...], Tokens]] = weakref.WeakKeyDictionary()


def check_readout(question: Question, maps: Sequence[AttentionMap], streams: Streams) -> None:
    """Raise `BrokenAssumption` if the score depends on other tokens, after the last attention, than on those declared.

    Maps without gradients are asked for once more, for one sample; where there is no gradient, the declaration stands.
    """
    if maps[0].gradient is None:
        try:
            _, maps = question[[0]].attention_score_and_grad()
        except Unsupported:
            return
    last, read = _read(maps, streams)
    start = streams.span(streams.readout[0]).start
    expected = {start + token for token in streams.read}
    if read and read != expected:
        raise BrokenAssumption(
            f"streams declare that the output is read at {_numbers(expected)}, but after the last attention, layer "
            f"{last!r}, the score depends on {_numbers(read)}: write the numbers of the tokens whose mean is read as "
            f"readout=({streams.readout[0]!r}, …)"
        )


def measured(question: Question) -> Streams:
    """The streams of a model that declares none, measured on the first sample from 18 forward passes and a backward one.

    A cell of the image after the other is replaced by noise: in the first attention layer, only keys of patches in that cell
    may move. Raises `Unsupported`, with the declaration to write, where the tokens are not such a grid or the output is not
    read at a single one of them.
    """
    model = question.model
    assert isinstance(model, Attentive)
    if len(model.modalities) != 1 or model.modalities[0].kind != "image":
        return declared(None, model.name)
    (modality,), (image,) = model.modalities, (question.inputs[0][:1],)
    known = _KNOWN.setdefault(model, {})
    if image.shape not in known:
        known[image.shape] = _tokens(question, image)
    tokens = known[image.shape]
    whole = Streams({modality.name: tokens}, (modality.name, None))
    _, maps = question[[0]].attention_score_and_grad()
    _, read = _read(maps, whole)
    if len(read) != 1:
        raise undeclared(
            model.name,
            f"although its tokens were measured ({tokens}), its output depends on {_numbers(read)} of them, and only you know "
            "whether their mean is taken",
        )
    return Streams(whole.tokens, (modality.name, min(read)))


def _read(maps: Sequence[AttentionMap], streams: Streams) -> tuple[str, set[int]]:
    """The last layer that writes to the stream of the readout, and the tokens, of all streams, that the score takes from it."""
    name = streams.readout[0]
    last, read = "", set[int]()
    for recorded in maps:
        queries = streams.named(recorded.values.shape[2], recorded.layer)
        if queries in (name, "") and recorded.gradient is not None:
            rows = np.abs(recorded.gradient).max(axis=(0, 1, 3))
            last, read = recorded.layer, {streams.span(queries).start + int(i) for i in np.flatnonzero(rows)}
    return last, read


def _tokens(question: Question, image: Array) -> Tokens:
    """The grid of the tokens and how many come before it."""
    model = question.model
    assert isinstance(model, Attentive)
    moved = _moved(question, image)  # (cells, tokens)
    still = moved <= 1e-4 * moved.max(axis=1, keepdims=True, initial=1e-30)
    prefix = int(np.argmin(np.append(still.all(axis=0), False)))
    rest = moved[:, prefix:]
    space = image.shape[1:-1]
    at = np.stack(np.unravel_index(np.arange(len(moved)), (CELLS,) * len(space)), axis=1)
    centres = (rest / rest.sum(axis=0).clip(1e-30)).T @ at  # (tokens, axes of space), in cells
    for grid in _grids(rest.shape[1], len(space)):
        numbers = np.stack(np.unravel_index(np.arange(rest.shape[1]), grid), axis=1)
        expected = (numbers + 0.5) / np.array(grid) * CELLS - 0.5
        if not still[:, prefix:].all(axis=0).any() and np.abs(centres - expected).max(initial=0) < 0.75:
            return Tokens(grid, prefix)
    raise undeclared(model.name, "its tokens are no grid of patches in raster order as far as can be measured")


def _moved(question: Question, image: Array) -> Array:
    """How much the first layer's attention to each token moves when each cell is replaced by noise: (cells, tokens).

    A softmax moves as a whole when one key does, so what moves most keys alike is taken away, and queries vote by their
    median: those in the cell move whatever the key.
    """
    model = question.model
    assert isinstance(model, Attentive)
    space = image.shape[1:-1]
    low, high = model.modalities[0].range or (float(image.min()) - 1, float(image.max()) + 1)
    noise = np.random.default_rng([0, 1]).uniform(low, high, image.shape).astype(image.dtype)
    cells = list(np.ndindex(*(CELLS,) * len(space)))
    copies = np.repeat(image, len(cells) + 1, axis=0)
    for copy, cell in zip(copies[1:], cells, strict=True):
        inside = tuple(slice(i * size // CELLS, (i + 1) * size // CELLS) for i, size in zip(cell, space, strict=True))
        copy[inside] = noise[0][inside]
    size = question.batch_size
    parts = [model.attention_vjp((copies[i : i + size],), None)[1][0].values for i in range(0, len(copies), size)]
    first = np.concatenate(parts).astype(np.float64)
    if first.shape[2] != first.shape[3]:
        raise undeclared(model.name, "its first layer is cross-attention")
    change = np.log(first[1:].clip(1e-30)) - np.log(first[:1].clip(1e-30))
    change -= np.median(change, axis=-1, keepdims=True)
    return np.asarray(np.median(change**2, axis=(1, 2)))


def _grids(count: int, axes: int) -> list[tuple[int, ...]]:
    """All grids of so many patches."""
    if axes == 1:
        return [(count,)] if count else []
    return [
        (size, *rest) for size in range(1, count + 1) if not count % size for rest in _grids(count // size, axes - 1)
    ]


def _numbers(tokens: set[int]) -> str:
    """Tokens in words: "token 0", "tokens 0, 1", "tokens 1 … 16"."""
    ordered = sorted(tokens)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"tokens {ordered[0]} … {ordered[-1]}"
    return f"token{'s' if len(ordered) > 1 else ''} {', '.join(map(str, ordered))}"
