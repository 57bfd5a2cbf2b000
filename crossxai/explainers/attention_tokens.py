"""What is measured of a transformer's tokens: where they are in the image, and which of them the output is read at."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from crossxai.assumptions.facts import itself, kind_of, known
from crossxai.assumptions.layout import GRID, cells
from crossxai.assumptions.probes import rounding
from crossxai.attention import Attentive, Streams, Tokens, declared, undeclared
from crossxai.errors import BrokenAssumption, Unsupported
from crossxai.model import Array, Inputs

SAMPLES = 4
"""A token that is read may have no gradient at one sample."""

STEPS = (0.1, 0.02, 0.004)
"""What probabilities are moved by, as a share of what they are: smaller where outputs bend on the way."""


class Read(NamedTuple):
    """The attention layers; the last that writes to the stream of the readout; the tokens that outputs take from it."""

    layers: tuple[str, ...]
    last: str
    tokens: frozenset[int]


def check_readout(model: Attentive, inputs: Inputs, streams: Streams) -> None:
    """Raise `BrokenAssumption` if outputs depend on other tokens, after the last attention, than on those declared; where there
    is no gradient, the declaration stands."""
    try:
        read = _read(model, inputs, streams)
    except Unsupported:
        return
    start = streams.span(streams.readout[0]).start
    expected = {start + token for token in streams.read}
    if read.tokens and read.tokens != expected:
        raise BrokenAssumption(
            f"streams declare that the output is read at {_numbers(expected)}, but after the last attention, layer "
            f"{read.last!r}, it depends on {_numbers(read.tokens)}: write the numbers of the tokens whose mean is read as "
            f"readout=({streams.readout[0]!r}, …)"
        )


def check_gradient(model: Attentive, inputs: Inputs) -> None:
    """Raise `BrokenAssumption` if the outputs' gradient at the attention is not what central differences say, measured once on
    the first sample; all layers' probabilities are moved together, in four directions: 16 passes, or 48 in doubt."""
    error = known(model, ("gradient at attention", kind_of(inputs)), lambda: _error(itself(model), inputs))
    if error:
        raise BrokenAssumption(
            f"the gradient of model {model.name!r} at its attention differs by up to {error:.0%} from central differences "
            "of its outputs: a part of the way is cut (no_grad, detach, stop_gradient), or a hook changes gradients; "
            "attention.rollout needs none"
        )


def _error(model: Attentive, inputs: Inputs) -> float:
    """How wrong the gradient at the attention is, relative to the larger of two slopes; 0 if no more than can be told."""
    one = tuple(v[:1] for v in inputs)
    outputs, maps = model.attention_vjp(one, _mixed)
    slopes = [m.values[0].astype(np.float64) * m.gradient[0] for m in maps if m.gradient is not None]
    rng, worst = np.random.default_rng(7), 0.0
    noise = 64 * rounding(model, outputs) * float(np.abs(_mixed(outputs) * outputs).sum())

    def difference(directions: list[Array], step: float) -> float:
        moved = [model.attention_vjp(one, None, [sign * step * d for d in directions])[0] for sign in (1, -1)]
        up, down = (float((_mixed(m) * m.astype(np.float64)).sum()) for m in moved)
        return (up - down) / (2 * step)

    for share in (0.0, 0.0, 0.5, 0.5):  # of the gradient's own direction, which alone would hide what it lacks
        directions = [share * np.sign(s) + (1 - share) * rng.choice([-1.0, 1.0], size=s.shape) for s in slopes]
        expected = sum(float((s * d).sum()) for s, d in zip(slopes, directions, strict=True))
        errors: list[float] = []
        for step in STEPS:
            whole, half = difference(directions, step), difference(directions, step / 2)
            size, error = max(abs(expected), abs(half)), abs(half - expected)
            if error <= 0.03 * size + 2 * abs(whole - half) + 2 * noise / step:
                errors = []
                break
            errors.append(error / size)
            if 10 * noise / step > error:  # a smaller step would show rounding
                break
        worst = max(worst, *errors[-1:], 0.0)
    return worst


def measure_streams(model: Attentive, inputs: Inputs) -> Streams:
    """The streams of a model that declares none, measured once on the first sample (17 passes forward, 1 backward): as
    a cell of the image is replaced, only its patches' keys may move in the first layer. Raises `Unsupported`, with the
    declaration to write, where the tokens are no such grid, or the output is not read at a single one of them."""
    if len(model.modalities) != 1 or model.modalities[0].kind != "image":
        return declared(None, model.name)
    modality = model.modalities[0].name
    tokens = known(model, ("tokens", kind_of(inputs)), lambda: _tokens(itself(model), inputs[0][0]))
    read = _read(model, inputs, Streams({modality: tokens}, (modality, None)))
    if not read.tokens:
        raise undeclared(model.name, f"its outputs depend on none of its tokens, {tokens}, as far as can be measured")
    if len(read.tokens) > 1:
        first, last = min(read.tokens), max(read.tokens)
        several = tuple(sorted(read.tokens))
        token = f"tuple(range({first}, {last + 1}))" if len(several) == last + 1 - first > 2 else repr(several)
        token = "None" if len(several) == tokens.count else token
        raise Unsupported(
            f"model {model.name!r} declares no token streams. Measured: {tokens}, and outputs depend on {_numbers(several)}. "
            "Whether their mean is what the network takes cannot be measured: if it is, declare at the adapter "
            f"streams=Streams({{{modality!r}: {tokens}}}, readout=({modality!r}, {token}))"
        )
    return Streams({modality: tokens}, (modality, min(read.tokens)))


def describe_streams(model: Attentive, inputs: Inputs) -> tuple[str, ...]:
    """Which layers were taken, and which tokens they run over, for the reader of a map."""
    streams = measure_streams(model, inputs) if model.streams is None else model.streams
    how = "measured" if model.streams is None else "declared"
    try:
        layers = _read(model, inputs, streams).layers
    except Unsupported:
        return ()
    ends = layers[0] if len(layers) == 1 else f"{len(layers)} layers, {layers[0]} to {layers[-1]}"
    tokens = "; ".join(f"{name}: {_grid(tokens)}" for name, tokens in streams.tokens.items())
    start = streams.span(streams.readout[0]).start
    read = _numbers([start + token for token in streams.read])
    return (f"attention of {ends}; tokens of {tokens}; read at {read}; {how}",)


def _grid(tokens: Tokens) -> str:
    before = f"{tokens.prefix} without a place" if tokens.prefix else ""
    grid = " × ".join(map(str, tokens.grid))
    return f"{grid} after {before}" if grid and before else grid or before


def _read(model: Attentive, inputs: Inputs, streams: Streams) -> Read:
    """Tokens are numbered over all streams. After its last attention, a token moves nothing but itself."""

    def measure() -> Read:
        _, maps = itself(model).attention_vjp(tuple(v[:SAMPLES] for v in inputs), _mixed)
        read = Read(tuple(m.layer for m in maps), "", frozenset())
        for recorded in maps:
            queries = streams.named(recorded.values.shape[2], recorded.layer)
            if queries in (streams.readout[0], "") and recorded.gradient is not None:
                rows = np.flatnonzero(np.abs(recorded.gradient).max(axis=(0, 1, 3)))
                start = streams.span(queries).start
                read = read._replace(last=recorded.layer, tokens=frozenset(start + int(row) for row in rows))
        return read

    shape = tuple((name, tokens.count) for name, tokens in streams.tokens.items())
    return known(model, ("readout", kind_of(inputs), shape, streams.readout[0], streams.joined), measure)


def _mixed(outputs: Array) -> Array:
    """Weights of a random mixture of all outputs, the same for each sample."""
    weights = np.random.default_rng(6).normal(size=outputs.shape[1:])
    return np.broadcast_to(weights, outputs.shape).astype(outputs.dtype)


def _tokens(model: Attentive, image: Array) -> Tokens:
    """The grid of the tokens and how many come before it."""
    moved = _moved(model, image)  # (cells, tokens)
    still = moved <= 1e-4 * moved.max(axis=1, keepdims=True, initial=1e-30)
    prefix = int(np.argmin(np.append(still.all(axis=0), False)))
    rest = moved[:, prefix:]
    rows = np.stack(np.divmod(np.arange(len(moved)), GRID), axis=1)
    centres = (rest / rest.sum(axis=0).clip(1e-30)).T @ rows  # (tokens, 2), in cells
    for height in range(1, rest.shape[1] + 1):
        width = rest.shape[1] // height
        if height * width != rest.shape[1] or still[:, prefix:].all(axis=0).any():
            continue
        numbers = np.stack(np.divmod(np.arange(rest.shape[1]), width), axis=1)
        expected = (numbers + 0.5) / (height, width) * GRID - 0.5
        if np.abs(centres - expected).max() < 0.75:
            return Tokens((height, width), prefix)
    raise undeclared(model.name, "its tokens are no grid of patches in raster order, as far as can be measured")


def _moved(model: Attentive, image: Array) -> Array:
    """How much the first layer's attention to each token moves as each cell is replaced: (cells, tokens). A softmax
    moves as a whole: what most keys do is taken away, and queries, of which those in the cell always move, vote."""
    copies = np.concatenate([image[None], cells(image)])
    _, maps = model.attention_vjp((copies,), None)
    counts = {count for recorded in maps for count in recorded.values.shape[2:]}
    if len(counts) > 1:
        raise undeclared(
            model.name, f"its layers attend over different numbers of tokens ({', '.join(map(str, sorted(counts)))})"
        )
    first = maps[0].values.astype(np.float64)
    change = np.log(first[1:].clip(1e-30)) - np.log(first[:1].clip(1e-30))
    change -= np.median(change, axis=-1, keepdims=True)
    return np.asarray(np.median(change**2, axis=(1, 2)))


def _numbers(tokens: Collection[int]) -> str:
    """Tokens in words: "token 0", "tokens 0, 1", "tokens 1 … 16"."""
    ordered = sorted(tokens)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"tokens {ordered[0]} … {ordered[-1]}"
    return f"token{'s' if len(ordered) > 1 else ''} {', '.join(map(str, ordered))}"
