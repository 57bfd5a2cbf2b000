"""What the axes of a layer's activation mean: by the layer's own definition, declared, or measured; never guessed, since a map
painted with the wrong axes looks like any other map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crossxai.assumptions.placing import Placed, placed
from crossxai.attention import Tokens
from crossxai.errors import InvalidInput, Unsupported
from crossxai.model import Array

GRID = 4
"""Cells of the input along each axis that are replaced one at a time: 16 forward passes."""
OWN, OTHER = 0.75, 0.4
"""A layer's axis is y if the place where it changes follows the row of the replaced cell (correlation at least `OWN`) and
not its column (at most `OTHER`). Measured with random and trained weights: 0.86 to 1.0 and 0.0 to 0.3."""
PREFIXES = (0, 1, 2, 5, 4, 3, 6, 7, 8)
"""Tokens that stand for no place (class, distillation, registers), tried in this order."""

LATER = 0.02
"""A grid that is clearer by so much one class token earlier begins there: 0.05 to 0.11 with 14 × 14 and 10 × 10 tokens."""

How = Literal["the layer's definition", "declared", "measured"]
SPACE = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}
"""What layers call the axes of so many dimensions of space."""


@dataclass(frozen=True)
class Layout:
    """How to read an activation (n, *shape) of a layer as (n, y, x, channel), that of a volume as (n, z, y, x, channel).

    axes: what its axes after the sample axis mean, each of "z", "y", "x", "channel" or "token". tokens: the grid that a "token"
    axis stands for. how: where this comes from.
    """

    axes: tuple[str, ...]
    tokens: Tokens | None = None
    how: How = "measured"

    @property
    def ordered(self) -> tuple[str, ...]:
        """The names of a plane's or volume's axes in our order: ([z,] y, x, channel)."""
        return (*SPACE[len(self.axes) - 1], "channel")

    def space(self, activation: Array) -> Array:
        """The activation as (n, [z,] y, x, channel), without the tokens that stand for no place."""
        if self.tokens is None:
            order = (1 + self.axes.index(a) for a in self.ordered)
            return np.ascontiguousarray(activation.transpose(0, *order))
        rows = np.moveaxis(activation, 1 + self.axes.index("token"), 1)[:, self.tokens.prefix :]
        return np.ascontiguousarray(rows.reshape(len(activation), *self.tokens.grid, -1))

    def restored(self, space: Array, original: Array) -> Array:
        """An activation in the layer's own order from (n, [z,] y, x, channel); other tokens as in the original (n, *shape)."""
        if self.tokens is None:
            return np.ascontiguousarray(space.transpose(0, *(1 + self.ordered.index(a) for a in self.axes)))
        token = 1 + self.axes.index("token")
        rows = np.moveaxis(original, token, 1).copy()
        rows[:, self.tokens.prefix :] = space.reshape(len(space), -1, space.shape[-1])
        return np.ascontiguousarray(np.moveaxis(rows, 1, token))

    def flat(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """The layer's own shape of ([z,] y, x, channel) places, for tokens without a prefix."""
        sizes = {"token": math.prod(space[:-1]), "channel": space[-1]}
        return tuple(sizes[a] for a in self.axes)

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """([z,] y, x, channel) of an activation of this shape, the sample axis left out."""
        if self.tokens is not None:
            return *self.tokens.grid, shape[self.axes.index("channel")]
        return tuple(shape[self.axes.index(a)] for a in self.ordered)

    def words(self) -> str:
        """The axes in words, for messages and notes."""
        if self.tokens is None:
            return f"axes ({', '.join(self.axes)}), {self.how}"
        grid, prefix = " × ".join(map(str, self.tokens.grid)), self.tokens.prefix
        before = f" after {prefix} without a place" if prefix else ""
        return f"axes ({', '.join(self.axes)}), tokens on a grid of {grid}{before}, {self.how}"


def defined(axes: tuple[str, ...] | None, shape: tuple[int, ...], dimensions: int = 2) -> Layout | None:
    """The layout that a layer's definition tells for an activation of this shape; None if it tells of no plane (volume)."""
    if axes is None or set(axes) != {"channel", *SPACE[dimensions]} or len(shape) != dimensions + 1:
        return None
    return Layout(axes, how="the layer's definition")


def declared(
    axes: Sequence[str], shape: tuple[int, ...], tokens: Tokens | None, layer: str, dimensions: int = 2
) -> Layout:
    """The layout of a declaration; raises `InvalidInput` unless it fits an activation of this shape."""
    given = tuple(axes)
    if sorted(given) == sorted(("channel", *SPACE[dimensions])) and len(shape) == len(given):
        return Layout(given, how="declared")
    if sorted(given) == ["channel", "token"] and len(shape) == 2 and tokens is not None:
        count = shape[given.index("token")]
        if tokens.count == count and len(tokens.grid) == dimensions:
            return Layout(given, tokens, "declared")
        raise InvalidInput(
            f"layer {layer!r} has {count} tokens, streams declare {tokens.count} on a grid {tokens.grid}: they must agree"
        )
    first, last = ("channel", *SPACE[dimensions]), (*SPACE[dimensions], "channel")
    raise InvalidInput(
        f"layer {layer!r} has an activation of shape {shape}, which layer_axes declares as {given!r}: write one name per "
        f"axis, {first} or {last}, or ('token', 'channel') beside streams=Streams(…)"
    )


def streamed(shape: tuple[int, ...], tokens: Tokens | None, dimensions: int = 2) -> Layout | None:
    """The layout of (token, channel) activations whose count of tokens is that of the declared stream, if one axis alone is."""
    if tokens is None or len(tokens.grid) != dimensions or len(shape) != 2 or list(shape).count(tokens.count) != 1:
        return None
    axes = ("token", "channel") if shape[0] == tokens.count else ("channel", "token")
    return Layout(axes, tokens, "declared")


def cells(image: Array, along: tuple[int, int] = (0, 1), seed: int = 0) -> Array:
    """(GRID², [z,] y, x, channel): the image or volume with one cell each replaced, row by row.

    A cell gets pixels of the image, drawn at random, half-way to the darkest or brightest value of each channel, the farther one.
    along: the axes that are cut; a cell of a volume goes through it along its third axis.
    """
    rng = np.random.default_rng([seed, 4])
    image = np.moveaxis(image, along, (0, 1))
    height, width, channels = image.shape[0], image.shape[1], image.shape[-1]
    pixels = image.reshape(-1, channels)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    copies = np.repeat(image[None], GRID * GRID, axis=0)
    rows = np.linspace(0, height, GRID + 1).round().astype(int)
    columns = np.linspace(0, width, GRID + 1).round().astype(int)
    for i, copy in enumerate(copies):
        y, x = slice(*rows[i // GRID : i // GRID + 2]), slice(*columns[i % GRID : i % GRID + 2])
        part = copy[y, x]
        drawn = pixels[rng.integers(len(pixels), size=part.shape[:-1])]
        far = np.where(part.mean(axis=tuple(range(part.ndim - 1))) > (low + high) / 2, low, high)
        copy[y, x] = (drawn + far) / 2
    return np.moveaxis(copies, (1, 2), tuple(1 + axis for axis in along))


@dataclass
class Responses:
    """Where one layer's activation changes as each cell of the input is replaced: a profile per axis, collected cell by cell."""

    profiles: list[list[Array]]

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Responses:
        """Nothing yet, for an activation of this shape without the sample axis."""
        return cls([[] for _ in shape])

    def add(self, before: Array, after: Array) -> None:
        """before (1, *shape), after (copies, *shape), in the order of `cells`."""
        own = before[0].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            for copy in after:
                change = np.square(copy - own)
                self.profiles[-1].append(change.reshape(-1, change.shape[-1]).sum(axis=0))
                rest = change.sum(axis=-1)
                for axis, profiles in enumerate(self.profiles[:-1]):
                    profiles.append(rest.sum(axis=tuple(i for i in range(rest.ndim) if i != axis)))

    def layout(self, shape: tuple[int, ...], aspect: float) -> tuple[Layout | None, str]:
        """The layout that the responses show and how clearly, in words; None if they show none.

        aspect: height / width of the input; a grid of tokens has it, too, to half a token, and a plane roughly.
        """
        if any(len(profiles) != GRID * GRID for profiles in self.profiles):
            return None, "it does not run once per sample"
        if len(shape) == 3:
            return self._plane(shape, aspect)
        return self._tokens(shape, aspect) if len(shape) == 2 else (None, f"{len(shape)} axes")

    def placed(self, axes: tuple[str, ...], linear: bool, cut: tuple[str, str] = ("y", "x")) -> Placed:
        """Whether a plane with these axes responds where the cells lie, which were cut along two of them; see
        `crossxai.assumptions.placing`."""
        if any(len(profiles) != GRID * GRID for profiles in self.profiles):
            return Placed("unclear")
        rows, columns = (np.array(self.profiles[axes.index(axis)]) for axis in cut)
        return placed(rows, columns, GRID, (_follows(rows)[0], _follows(columns)[1]), linear, cut)

    def _plane(self, shape: tuple[int, ...], aspect: float) -> tuple[Layout | None, str]:
        follow = [_follows(np.array(profiles)) for profiles in self.profiles]
        words = "; ".join(f"axis {i + 1} follows rows {r:.2f}, columns {c:.2f}" for i, (r, c) in enumerate(follow))
        best, chosen = 0.0, None
        for y, (own_y, other_y) in enumerate(follow):
            for x, (other_x, own_x) in enumerate(follow):
                clear = min(own_y, own_x) >= OWN and max(abs(other_y), abs(other_x)) <= OTHER
                alike = abs(shape[y] - shape[x] * aspect) <= 1 + 0.25 * shape[y]
                if y != x and clear and alike and min(own_y, own_x) > best:
                    best, chosen = min(own_y, own_x), (y, x)
        if chosen is None:
            return None, words
        names = ["channel"] * 3
        names[chosen[0]], names[chosen[1]] = "y", "x"
        return Layout(tuple(names)), words

    def _tokens(self, shape: tuple[int, ...], aspect: float) -> tuple[Layout | None, str]:
        best, chosen, words = 0.0, None, []
        for axis, count in enumerate(shape):
            profiles = np.array(self.profiles[axis])
            for prefix in PREFIXES:
                # Grids (y, x) of the input's aspect ratio, to half a token, at least 2 × 2.
                rest = count - prefix
                grids = [(y, rest // y) for y in range(2, rest // 2 + 1) if rest % y == 0]
                for grid in (g for g in grids if abs(g[0] - g[1] * aspect) <= 0.5 * max(1.0, aspect)):
                    clear, own = _clear(profiles[:, prefix:], grid)
                    # Tokens that stand for no place may come last, and a large grid is nearly as clear one token further.
                    last = prefix > 0 and _clear(profiles[:, : count - prefix], grid)[0] > clear + LATER
                    if clear > best and not last:
                        best, chosen = clear, (axis, Tokens(grid, prefix))
                    side = "before" if last else "after"
                    words.append((own, f"axis {axis + 1} as {grid[0]} × {grid[1]} tokens {side} {prefix}"))
        if chosen is None:
            nearest = max(words, default=(0.0, "no grid of tokens has the image's aspect ratio"))
            return None, f"{nearest[1]} follows rows and columns by {nearest[0]:.2f}" if words else nearest[1]
        axis, tokens = chosen
        return Layout(("token", "channel") if axis == 0 else ("channel", "token"), tokens), f"correlation {best:.2f}"


def _clear(profiles: Array, grid: tuple[int, int]) -> tuple[float, float]:
    """How tokens (cells, tokens) lie on a grid in raster order: the lower of two correlations, 0 if not clear; and as it is."""
    change = profiles.reshape(len(profiles), *grid)
    (own_y, other_y), (other_x, own_x) = _follows(change.sum(axis=2)), _follows(change.sum(axis=1))
    clear = min(own_y, own_x) >= OWN and max(abs(other_y), abs(other_x)) <= OTHER
    return min(own_y, own_x) if clear else 0.0, min(own_y, own_x)


def _follows(profiles: Array) -> tuple[float, float]:
    """How the centroid of profiles (cells, places) follows the row and the column of the cell: two correlations."""
    row, column = np.divmod(np.arange(len(profiles)), GRID)
    raised = profiles - np.median(profiles, axis=1, keepdims=True) if profiles.shape[1] > 2 else profiles
    raised = np.maximum(raised, 0)
    total = raised.sum(axis=1)
    if profiles.shape[1] < 2 or not (np.isfinite(total).all() and (total > 0).sum() > len(total) // 2):
        return 0.0, 0.0
    seen = total > 0
    centroid = (raised[seen] @ np.arange(profiles.shape[1])) / total[seen]
    if min(centroid.std(), row[seen].std(), column[seen].std()) < 1e-9:
        return 0.0, 0.0
    return _correlation(centroid, row[seen]), _correlation(centroid, column[seen])


def _correlation(one: Array, other: Array) -> float:
    """Pearson's, of values that are not all the same; `np.corrcoef` takes ten times as long for so few."""
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def refusal(layer: str, model: str, shape: tuple[int, ...], measured: str) -> Unsupported:
    """Why there is no map at a layer, with the declaration to write."""
    if len(shape) in (3, 4):
        space = SPACE[len(shape) - 1]
        write = f"layer_axes={{{layer!r}: {('channel', *space)}}} or {(*space, 'channel')}"
    elif len(shape) == 2:
        write = "streams=Streams({'image': Tokens(grid=(14, 14), prefix=1)}, readout=('image', 0))"
    else:
        return Unsupported(f"layer {layer!r} of model {model!r} has an activation of shape {shape}: no space for a map")
    return Unsupported(
        f"layer {layer!r} of model {model!r} has an activation of shape {shape}, and what its axes mean is neither told by the "
        f"layer nor measurable ({measured}): if it has space, declare it at the adapter: {write}"
    )
