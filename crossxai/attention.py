"""What a transformer declares about its tokens, and what an adapter records of its attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.model import Array, Cotangent, Differentiable, Inputs, Modality


@dataclass(frozen=True)
class Tokens:
    """How one stream becomes tokens: `prefix` tokens that stand for no place (a class token), then a grid in raster order.

    Parameters
    ----------
    grid : tuple of int
        (14, 14) for an image cut into 14 × 14 patches, (features,) for a table whose columns are tokens, () for a stream of
        learned tokens that belongs to no modality.
    prefix : int, tokens before the grid
    """

    grid: tuple[int, ...]
    prefix: int = 0

    def __post_init__(self) -> None:
        whole = isinstance(self.grid, tuple) and all(isinstance(g, int) and g > 0 for g in self.grid)
        if not whole or not isinstance(self.prefix, int) or self.prefix < 0 or not self.count:
            raise InvalidInput(
                "tokens are a grid of whole numbers and a number of tokens before it, such as "
                f"Tokens(grid=(14, 14), prefix=1); got grid={self.grid!r}, prefix={self.prefix!r}"
            )

    @property
    def count(self) -> int:
        """All tokens, those before the grid included."""
        return self.prefix + (math.prod(self.grid) if self.grid else 0)


@dataclass(frozen=True)
class Streams:
    """Which tokens a model's attention runs over, and where its output is read; declared, never guessed.

    Parameters
    ----------
    tokens : mapping of str to Tokens
        Modality name → its tokens; a name that is no modality's is a stream of learned tokens, with grid=().
    readout : (str, int, tuple of int or None)
        The stream that the output is computed from and the number of the token in it; several numbers for their mean, as in a
        distilled DeiT (0, 1); None for the mean of all.
    joined : bool, whether some layers attend within one sequence of all streams, one after another in the order of `tokens`
    parallel : bool
        Whether two cross-attentions in a row, in opposite directions, both read what came before them (as in LXMERT); otherwise
        the second one reads what the first one wrote.

    Raises
    ------
    InvalidInput: if tokens or readout are none; `UnknownName` if the readout names no stream
    """

    tokens: Mapping[str, Tokens]
    readout: tuple[str, int | tuple[int, ...] | None]
    joined: bool = False
    parallel: bool = False

    def __post_init__(self) -> None:
        tokens, readout = self.tokens, self.readout
        if not isinstance(tokens, Mapping) or not tokens or not all(isinstance(t, Tokens) for t in tokens.values()):
            raise InvalidInput(f"streams: write tokens={{'image': Tokens(grid=(14, 14), prefix=1)}}, got {tokens!r}")
        if not isinstance(readout, tuple) or len(readout) != 2:
            raise InvalidInput(f"streams: readout is (stream, token), such as ('image', 0), got {readout!r}")
        name, token = readout
        if name not in tokens:
            raise UnknownName("stream to read the output from", name, tokens)
        numbers = token if isinstance(token, tuple) and token else (0 if token is None else token,)
        if not all(isinstance(t, int) and 0 <= t < tokens[name].count for t in numbers):
            raise InvalidInput(
                f"streams: the output is read at token 0 … {tokens[name].count - 1} of {name!r}, at several of them or at "
                f"None, the mean of all, got {token!r}"
            )

    @property
    def read(self) -> tuple[int, ...]:
        """The numbers of the tokens whose mean the output is computed from."""
        name, token = self.readout
        if token is None:
            return tuple(range(self.tokens[name].count))
        return token if isinstance(token, tuple) else (token,)

    @property
    def count(self) -> int:
        """The tokens of all streams together."""
        return sum(t.count for t in self.tokens.values())

    def span(self, stream: str) -> slice:
        """Where a stream's tokens stand among all tokens; "" is all of them."""
        if not stream:
            return slice(0, self.count)
        names = list(self.tokens)
        start = sum(self.tokens[name].count for name in names[: names.index(stream)])
        return slice(start, start + self.tokens[stream].count)

    def named(self, count: int, layer: str) -> str:
        """The stream that has this many tokens, "" for all streams joined; `Unsupported` if none or several have."""
        fitting = [name for name, tokens in self.tokens.items() if tokens.count == count]
        if self.joined and len(self.tokens) > 1 and count == self.count:
            fitting.append("")
        if len(fitting) == 1:
            return fitting[0]
        counts = ", ".join(f"{name!r} {tokens.count}" for name, tokens in self.tokens.items())
        if not fitting:
            raise Unsupported(
                f"layer {layer!r} attends over {count} tokens, the declared streams have {counts}"
                f"{f', {self.count} joined' if self.joined else ''}: declare what these tokens are in streams=Streams(…)"
            )
        raise Unsupported(
            f"layer {layer!r} attends over {count} tokens, and several declared streams have as many ({counts}): streams "
            "are told apart by their number of tokens"
        )

    def check(self, modalities: tuple[Modality, ...]) -> Streams:
        """These streams; raises `InvalidInput` unless their grids fit the modalities of the model."""
        known = {m.name: m for m in modalities}
        if not set(known) & set(self.tokens):
            raise InvalidInput(f"streams: name one of the modalities {', '.join(known)}, got {', '.join(self.tokens)}")
        for name, tokens in self.tokens.items():
            axes = known[name].axes if name in known else ()
            expected = max(1, len(axes) - 1) if axes else 0
            if len(tokens.grid) != expected:
                mismatch = (
                    f"modality {name!r} has axes {', '.join(axes)}: its grid has {expected} of them"
                    if axes
                    else f"{name!r} is no modality of the model ({', '.join(known)}): learned tokens have grid=()"
                )
                raise InvalidInput(f"streams: {mismatch}, got grid={tokens.grid}")
        return self


@dataclass(frozen=True)
class AttentionMap:
    """One attention layer in one pass: probabilities (n, heads, queries, keys), and the gradient at them if wanted."""

    layer: str
    values: Array
    gradient: Array | None = None

    @staticmethod
    def concatenate(parts: Sequence[AttentionMap]) -> AttentionMap:
        """The same layer's maps of several batches, one after another."""
        gradients = [part.gradient for part in parts if part.gradient is not None]
        values = np.concatenate([part.values for part in parts])
        return AttentionMap(parts[0].layer, values, np.concatenate(gradients) if gradients else None)


@runtime_checkable
class Attentive(Differentiable, Protocol):
    """A transformer whose attention can be read. Adapters always have the verb; `streams` is None until declared."""

    @property
    def streams(self) -> Streams | None: ...

    def attention_vjp(
        self, inputs: Inputs, cotangent: Cotangent | None, nudges: Sequence[Array] = ()
    ) -> tuple[Array, tuple[AttentionMap, ...]]:
        """(outputs, every attention layer's probabilities in order of execution and the gradient of
        sum(cotangent · outputs) at them), from one forward and one backward pass; no backward pass without a cotangent.

        nudges: one array (heads, queries, keys) per layer; its probabilities p become p · (1 + nudge) before they mix values.

        Raises `Unsupported` if no attention layer runs, or one that cannot be recorded.
        """
        ...


def declared(streams: Streams | None, model: str) -> Streams:
    """The streams of a model; raises `Unsupported` if there are none, with what to write."""
    if streams is None:
        raise undeclared(model)
    return streams


def undeclared(model: str, why: str = "") -> Unsupported:
    """What to declare, and why the streams could not be measured."""
    return Unsupported(
        f"model {model!r} declares no token streams{why and f', and {why}'}: give its adapter, for a class token and 14 × 14 "
        "patches, streams=Streams({'image': Tokens(grid=(14, 14), prefix=1)}, readout=('image', 0))"
    )


def check_recorded(shapes: Sequence[tuple[str, tuple[int | None, ...]]], n: int | None, model: str, kind: str) -> None:
    """Raise `Unsupported` unless (layer, shape of its probabilities) tell of attention between the tokens of a sample."""
    if not shapes:
        raise Unsupported(f"model {model!r} ran no {kind}")
    for layer, shape in shapes:
        if len(shape) != 4 or (n is not None and shape[0] not in (n, None)):
            raise Unsupported(
                f"layer {layer!r} of model {model!r} has attention of shape {shape}, not ({n or 'n'}, heads, queries, keys): "
                "attention inside windows or over several axes has no one map per sample"
            )
