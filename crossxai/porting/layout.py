"""How a value of torch's lies beside its node's, whose channels are last: which axes are which, and what reshapes come to."""

from __future__ import annotations

from collections.abc import Sequence

Order = tuple[int, ...]
"""The axis of torch's that each axis of the node is."""


def plain(rank: int) -> Order:
    """Both lie the same way: tables, tokens, and images that torch holds channels last."""
    return tuple(range(rank))


def channels_first(rank: int) -> Order:
    """Of images and volumes as torch's convolutions take them."""
    return (0, *range(2, rank), 1) if rank > 2 else plain(rank)


def inverse(order: Sequence[int]) -> Order:
    return tuple(order.index(axis) for axis in range(len(order)))


def without(order: Order, axes: Sequence[int]) -> Order:
    """The order once these axes of the node are gone."""
    left = [axis for i, axis in enumerate(order) if i not in axes]
    return tuple(sorted(left).index(axis) for axis in left)


def reshaped(before: Sequence[int], after: Sequence[int], order: Order) -> tuple[tuple[int, ...], Order] | None:
    """(the node's new shape, its order) for a reshape of torch's; None if it joins axes that are no neighbours in the node."""
    groups = _groups(before, after)
    places = [axis for axis in order if before[axis] != 1]
    starts = []
    for joined, _split in groups:
        start = places.index(joined[0])
        if places[start : start + len(joined)] != joined:
            return None
        starts.append(start)
    large = [axis for _, (_joined, split) in sorted(zip(starts, groups, strict=True)) for axis in split]
    new = _with_ones(large, after, few=len(before) == 2)
    return tuple(after[axis] for axis in new), new


def with_samples_first(before: Sequence[int], after: Sequence[int], samples: int) -> Order | None:
    """The axes that a reshape joins side by side, those joined to the samples first; None where others come before these."""
    groups = [joined for joined, _split in _groups(before, after)]
    own = next((joined for joined in groups if samples in joined), None)
    if own is None or own[0] != samples:
        return None
    others = [axis for joined in groups if joined is not own for axis in joined]
    ones = [axis for axis, size in enumerate(before) if size == 1 and axis not in own and axis not in others]
    return (*own, *others, *ones)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Which axes a reshape joins, and into which it splits them, without axes of one; in order."""
    ahead, behind = ([i for i, n in enumerate(shape) if n != 1] for shape in (before, after))
    groups = []
    while ahead:
        joined, split = [ahead.pop(0)], [behind.pop(0)]
        sizes = [before[joined[0]], after[split[0]]]
        while sizes[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                joined.append(ahead.pop(0))
                sizes[0] *= before[joined[-1]]
            else:
                split.append(behind.pop(0))
                sizes[1] *= after[split[-1]]
        groups.append((joined, split))
    return groups


def _with_ones(large: list[int], shape: Sequence[int], few: bool) -> Order:
    """The order in which axes of one stand, too: as in an image where the larger ones do, else after their neighbour."""
    rank = len(shape)
    image = [axis for axis in channels_first(rank) if shape[axis] != 1]
    if rank > 3 and image == large and (few or large != sorted(large)):
        return channels_first(rank)
    if large == sorted(large):
        return plain(rank)
    new = list(large)
    for axis in range(1, rank):
        if shape[axis] == 1:
            new.insert(new.index(axis - 1) + 1, axis)
    return tuple(new)
