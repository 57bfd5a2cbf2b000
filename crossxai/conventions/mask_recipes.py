"""Recipes of methods that hide parts by masks: occlusion and RISE with every library's choices."""

from __future__ import annotations

import math

import numpy as np

from crossxai.conventions.convention import Setting
from crossxai.conventions.recipe import Recipe
from crossxai.conventions.situation import baseline_of
from crossxai.errors import Unsupported
from crossxai.explainers.families import bilinear
from crossxai.model import Array, Inputs
from crossxai.question import Question, Rows

CROPPED = 32
"""How many of Xplique's masks share one crop."""


def _corners(question: Question, setting: Setting) -> list[tuple[int, int]]:
    """The upper left corners of all windows."""
    patch, stride = int(setting["patch"]), int(setting["stride"])
    covered = setting["border"] == "covered"
    counts = [
        (math.ceil(max(size - patch, 0) / stride) if covered else (size - patch) // stride) + 1
        for size in question.values[0].shape[1:3]
    ]
    return [(y * stride, x * stride) for y in range(counts[0]) for x in range(counts[1])]


def _drops(question: Question, setting: Setting) -> Array:
    """How far the score drops where a window hides the image (windows, n)."""
    (values,) = question.values
    corners, patch, n = _corners(question, setting), int(setting["patch"]), len(values)
    baseline = baseline_of(question, setting)
    rows = np.tile(np.arange(n), len(corners))

    def hidden(part: Rows) -> Inputs:
        copies = values[rows[part]]
        for copy, position in zip(copies, part, strict=True):
            y, x = corners[position // n]
            copy[y : y + patch, x : x + patch] = baseline
        return (copies,)

    return np.asarray(question.score() - question.score_stream(rows, hidden).reshape(len(corners), n))


def _occluded(question: Question, setting: Setting, drops: Array) -> Array:
    (values,) = question.values
    patch = int(setting["patch"])
    total, overlap = np.zeros((*values.shape[:3], 1)), np.zeros((*values.shape[1:3], 1))
    for (y, x), drop in zip(_corners(question, setting), drops, strict=True):
        total[:, y : y + patch, x : x + patch] += drop.reshape(-1, 1, 1, 1)
        overlap[y : y + patch, x : x + patch] += 1
    maps = total / np.maximum(overlap, 1) if setting["overlap"] == "averaged" else total
    return np.asarray(maps.astype(values.dtype))


OCCLUSION = Recipe(_drops, _occluded, ("overlap",))
"""Zeiler & Fergus 2014."""


def _masked_scores(question: Question, setting: Setting) -> tuple[Array, Array]:
    """Per sample the sum of masks, each times its score, and the sum of masks, both (n, y, x)."""
    (values,) = question.values
    baseline = baseline_of(question, setting)
    totals, shares = np.zeros(values.shape[:3]), np.zeros(values.shape[:3])
    for row, image in enumerate(values):
        masks = _masks(question, row, setting)
        shares[row] = masks.sum(axis=0)
        for start in range(0, len(masks), question.batch_size):
            some = masks[start : start + question.batch_size]
            shown = some[..., None] * image + (1 - some[..., None]) * baseline
            totals[row] += np.tensordot(question.score((shown,), np.full(len(shown), row)), some, axes=1)
    return totals, shares


def _normalised(question: Question, setting: Setting, sums: tuple[Array, Array]) -> Array:
    totals, shares = sums
    expected = float(setting["samples"]) * float(setting["keep"])
    maps = totals / (shares + 1e-8 if setting["normaliser"] == "masks" else expected)
    return np.asarray(maps[..., None].astype(question.values[0].dtype))


RISE = Recipe(_masked_scores, _normalised, ("normaliser",), ("xplique",))
"""Petsiuk et al. 2018, eq. 6."""


def _masks(question: Question, row: int, setting: Setting) -> Array:
    """The masks (samples, y, x) of one sample."""
    image = question.values[0][row]
    samples, grid, keep = int(setting["samples"]), int(setting["grid"]), float(setting["keep"])
    rng = question.rng(row, int(setting["seed"]))
    if setting["draws"] == "xplique":
        if setting["crop"] != "batch":
            raise Unsupported("Xplique crops its masks by the batch")
        return _of_xplique(image, samples, grid, keep, int(rng.integers(2**31)))
    cells = [math.ceil(size / grid) for size in image.shape[:2]]
    patterns = (rng.random((samples, grid, grid)) < keep).astype(image.dtype)
    corners = rng.integers(0, cells, (samples, 2))
    if setting["crop"] == "batch":
        corners = corners[np.arange(samples) // CROPPED * CROPPED]
    large = bilinear(patterns, (grid + 1) * cells[0], (grid + 1) * cells[1])
    height, width = image.shape[:2]
    return np.stack([mask[y : y + height, x : x + width] for mask, (y, x) in zip(large, corners, strict=True)])


def _of_xplique(image: Array, samples: int, grid: int, keep: float, seed: int) -> Array:
    """Xplique's own masks, drawn in the order in which it draws them."""
    import tensorflow as tf

    from crossxai.explainers.xplique import seeded
    from crossxai.process import require

    library = require("xplique.attributions", "xplique", "xplique.rise").Rise
    masks = []
    with seeded(library, seed):
        binary = library._get_masks((1, *image.shape), samples, grid, keep)
        for start in range(0, samples, CROPPED):
            some = library._apply_masks(tf.constant(image, tf.float32), binary[start : start + CROPPED], 0.0)[1]
            masks.append(some.numpy()[..., 0])
    return np.concatenate(masks)
