"""Attention rollout and gradient-weighted attention relevance, in NumPy, for any framework whose adapter records attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossxai.attention import AttentionMap, Attentive, Streams
from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.attention_tokens import check_gradient, check_readout, describe_streams, measure_streams
from crossxai.explainers.families import bilinear
from crossxai.explainers.method import NATIVE, Maps, Method, explainer, profiles
from crossxai.model import Array, Modality
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class _Attention(Method, needs="attention", family="attention", profiles=NATIVE, joint=True):
    """Explains at once all free modalities that have declared tokens; the others get no map. Maps are per pixel,
    bilinear from the grid of tokens, or per column of a table whose columns are tokens."""

    copied = 4  # every layer's maps are held at once, so no more than one batch of samples is

    def explainable(self, question: Question) -> Question:
        question = super().explainable(question)
        model = question.model
        if not isinstance(model, Attentive) or model.streams is None:
            return question  # measured next
        names = [m.name for m in question.modalities if m.name in model.streams.tokens]
        if not names:
            raise Unsupported(
                f"{self.name} explains modalities with tokens ({', '.join(model.streams.tokens)}); free are "
                f"{', '.join(question.free)}"
            )
        return question.only(*names)

    def explain(self, question: Question) -> Maps:
        model = question.model
        assert isinstance(model, Attentive)
        streams = measure_streams(model, question.inputs) if model.streams is None else model.streams
        for modality, values in zip(question.modalities, question.values, strict=True):
            _check_grid(modality, streams, values)
        if question.check != "off":
            check_readout(model, question.inputs, streams)
        maps = self.maps(question)
        if question.check != "off" and maps[0].gradient is not None:
            check_gradient(model, question.inputs)
        rows = self.spread(maps, streams)[:, streams.span(streams.readout[0])]
        read = rows[:, list(streams.read)].mean(axis=1)
        return tuple(
            _draw(read[:, streams.span(modality.name)], streams, modality, values)
            for modality, values in zip(question.modalities, question.values, strict=True)
        ), {}

    def notes(self, question: Question) -> tuple[str, ...]:
        model = question.model
        assert isinstance(model, Attentive)
        return describe_streams(model, question.inputs) + super().notes(question)

    def maps(self, question: Question) -> tuple[AttentionMap, ...]:
        """What each layer attends to, with the gradient there unless the method needs none."""
        return question.attention_score(gradients=True)[1]

    def spread(self, maps: Sequence[AttentionMap], streams: Streams) -> Array:
        """How much each token (axis 1) has taken from each token (axis 2), over all streams: (n, tokens, tokens)."""
        raise NotImplementedError


@explainer("attention.rollout", "attention of all layers multiplied, whatever the class", "Abnar & Zuidema 2020")
@profiles(native="heads averaged, half of each layer bypassed, bilinear resize, no rescale")
class Rollout(_Attention, choices={"heads": ("mean", "max", "min")}, least={"start": 0}, constant_passes=(1, 0)):
    """Attention rollout (Abnar & Zuidema 2020, eq. 1): the product over layers of (1 - residual) A + residual I.

    Knows nothing of the target, so the map is the same for every class. Raises `Unsupported` where streams meet in
    cross-attention, which the paper does not define.

    Parameters
    ----------
    heads : str, default 'mean'
        How the heads' probabilities become one matrix A: "mean", "max" or "min"; rows are scaled to sum to 1, which changes
        nothing for the mean.
    residual : float, default 0.5
        The share that bypasses the layer, at least 0 and below 1.
    start : int, default 0
        The first attention layer taken.
    """

    heads: str = "mean"
    residual: float = 0.5
    start: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.residual < 1:
            raise InvalidInput(f"{self.name}: residual needs 0 ≤ residual < 1, got {self.residual}")

    def maps(self, question: Question) -> tuple[AttentionMap, ...]:
        return question.attention_score()[1]

    def spread(self, maps: Sequence[AttentionMap], streams: Streams) -> Array:
        if self.start >= len(maps):
            raise Unsupported(f"{self.name}: start={self.start}, but only {len(maps)} attention layers run")
        total = _identity(len(maps[0].values), streams.count)
        for recorded in maps[self.start :]:
            queries, keys = _ends(recorded, streams)
            if queries != keys:
                raise Unsupported(
                    f"{self.name} is not defined for cross-attention, which layer {recorded.layer!r} has from "
                    f"{queries!r} to {keys!r}: take attention.relevance"
                )
            here = streams.span(queries)
            fused = getattr(recorded.values.astype(np.float64), self.heads)(axis=1)
            mixed = (1 - self.residual) * fused + self.residual * np.eye(fused.shape[-1])
            total[:, here] = _shares(mixed) @ total[:, here]
        return total


@explainer(
    "attention.relevance", "attention weighted by its gradient, collected over layers", "Chefer, Gur & Wolf 2021"
)
@profiles(native="positive part of attention times gradient, bilinear resize, no rescale")
class Relevance(_Attention):
    """Gradient-weighted attention relevance (Chefer, Gur & Wolf 2021, "Generic Attention-model Explainability").

    Every layer adds what its attention moves, eq. 5: Ā = mean over heads of (gradient ⊙ A)⁺. Self-attention of a stream s:
    R^ss += Ā R^ss and R^sq += Ā R^sq (eq. 6, 7). Cross-attention from s to q: R^sq += (R̄^ss)ᵀ Ā R̄^qq and
    R^ss += Ā R^qs (eq. 10, 11), where R̄ is R with what was added to the identity scaled to rows that sum to 1 (eq. 8, 9).
    Attention to tokens whose gradient is not positive counts for nothing, so maps have no negative part.
    """

    def spread(self, maps: Sequence[AttentionMap], streams: Streams) -> Array:
        total = _identity(len(maps[0].values), streams.count)
        for together in _rounds(maps, streams):
            added = [self._added(total, recorded, streams) for recorded in together]
            for here, rows in added:
                total[:, here] += rows
        return total

    def _added(self, total: Array, recorded: AttentionMap, streams: Streams) -> tuple[slice, Array]:
        """The stream whose relevance grows, and by how much for each token of all streams."""
        name, other = _ends(recorded, streams)
        assert recorded.gradient is not None
        weighted = recorded.values.astype(np.float64) * recorded.gradient
        moved = np.maximum(weighted, 0).mean(axis=1)  # eq. 5
        here, there = streams.span(name), streams.span(other)
        if name == other:
            return here, moved @ total[:, here]  # eq. 6 and 7
        if len(streams.tokens) > 2:
            raise Unsupported(
                f"{self.name}: layer {recorded.layer!r} has cross-attention from {name!r} to {other!r}, which is defined "
                f"for models of two streams; this one has {', '.join(streams.tokens)}"
            )
        own, others = _normalised(total[:, here, here]), _normalised(total[:, there, there])
        rows = np.zeros_like(total[:, here])
        rows[..., there] = own.swapaxes(-1, -2) @ moved @ others  # eq. 10, with its transpose
        rows[..., here] = moved @ total[:, there, here]  # eq. 11
        return here, rows


def _ends(recorded: AttentionMap, streams: Streams) -> tuple[str, str]:
    """The streams of a map's queries and keys; "" is all streams joined."""
    queries, keys = (streams.named(count, recorded.layer) for count in recorded.values.shape[2:])
    if queries != keys and not (queries and keys):
        raise Unsupported(f"layer {recorded.layer!r} attends between one stream and all of them joined")
    return queries, keys


def _rounds(maps: Sequence[AttentionMap], streams: Streams) -> list[list[AttentionMap]]:
    """The maps in order, those that read the same state together: a pair of opposite cross-attentions if parallel."""
    rounds: list[list[AttentionMap]] = []
    for recorded in maps:
        queries, keys = _ends(recorded, streams)
        pair = queries != keys and rounds and len(rounds[-1]) == 1 and _ends(rounds[-1][0], streams) == (keys, queries)
        if streams.parallel and pair:
            rounds[-1].append(recorded)
        else:
            rounds.append([recorded])
    return rounds


def _normalised(relevance: Array) -> Array:
    """Eq. 8 and 9: what was added to the identity, with rows that sum to 1 (or hold nothing yet), on the identity."""
    identity = np.eye(relevance.shape[-1])
    return np.asarray(_shares(relevance - identity) + identity)


def _shares(rows: Array) -> Array:
    """Rows that sum to 1; those that sum to nothing hold nothing."""
    sums = rows.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(rows, sums, out=np.zeros_like(rows), where=sums > 0))


def _identity(n: int, tokens: int) -> Array:
    """Each token is its own at the start; float64, as products over many layers lose digits."""
    return np.tile(np.eye(tokens), (n, 1, 1))


def _check_grid(modality: Modality, streams: Streams, values: Array) -> None:
    grid = streams.tokens[modality.name].grid
    if not modality.spatial and grid != (len(modality.features),):
        raise Unsupported(
            f"modality {modality.name!r} has {len(modality.features)} columns and {grid[0]} tokens: only a table whose "
            "columns are tokens has a map; explain the others with question.only(…)"
        )
    if modality.spatial and any(g > size for g, size in zip(grid, values.shape[1:-1], strict=True)):
        raise Unsupported(f"modality {modality.name!r} has fewer pixels {values.shape[1:-1]} than tokens {grid}")


def _draw(tokens: Array, streams: Streams, modality: Modality, values: Array) -> Array:
    """Tokens (n, count) as a map: (n, *space, 1), resized linearly along each axis, or (n, features)."""
    declared_as = streams.tokens[modality.name]
    drawn = tokens[:, declared_as.prefix :].reshape(len(tokens), *declared_as.grid)
    if modality.spatial:
        for axis, size in enumerate(values.shape[1:-1], start=1):
            lines = np.moveaxis(drawn, axis, -1)
            resized = bilinear(lines.reshape(-1, 1, lines.shape[-1]), 1, size)
            drawn = np.moveaxis(resized.reshape(*lines.shape[:-1], size), -1, axis)
        drawn = drawn[..., None]
    return np.ascontiguousarray(drawn, dtype=values.dtype)
