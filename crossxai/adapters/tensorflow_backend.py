"""Masking and scoring copies where a Keras model runs; see `crossxai.devices.DeviceBackend`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from crossxai.devices import PAIR, CopyParts, Factor
from crossxai.errors import OutOfMemory
from crossxai.model import Array
from crossxai.target import require_out

LINKS: dict[str, Callable[[Any], Any]] = {"identity": tf.identity, "softmax": tf.nn.softmax, "sigmoid": tf.sigmoid}


@contextmanager
def memory_errors() -> Iterator[None]:
    """What TensorFlow raises when memory runs out, as `OutOfMemory`."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise OutOfMemory(str(error)) from error


class KerasBackend:
    """A device, and a model on it. predict: channels-last tensors → outputs, class axis last; double: it runs in float64.

    Numbers are float32 there: TensorFlow computes with int32 on the host, wherever they lie, and so with what few kernels know.
    """

    clock = None  # TensorFlow has no events that could be read later

    def __init__(self, device: str, predict: Callable[[list[Any]], Any], double: bool) -> None:
        self.device, self._predict, self._double = device, predict, double

    def put(self, values: npt.NDArray[Any]) -> Any:
        """An array there."""
        exact = values.dtype == np.float64 and self._double
        with memory_errors(), tf.device(self.device):
            return tf.constant(values if exact else values.astype(np.float32, copy=False))

    def ranks(self, values: Any, ties: Any) -> Any:
        """Places in descending order; see `DeviceBackend`."""
        with memory_errors(), tf.device(self.device):
            flat = (
                tf.gather(tf.reshape(values, [-1]), tf.cast(ties, tf.int64)) + 0.0
            )  # -0 becomes 0, to which it is equal
            order = tf.gather(ties, tf.argsort(flat, direction="DESCENDING", stable=True))
            return tf.reshape(tf.cast(tf.argsort(order), tf.float32), values.shape)

    def blurred(self, values: Any, matrices: Sequence[Any]) -> Any:
        """values multiplied by matrices, in float64, since float32 may be TF32."""
        with memory_errors(), tf.device(self.device):
            exact = tf.cast(values, tf.float64)
            for axis, matrix in enumerate(matrices):
                turned = tf.tensordot(tf.cast(matrix, tf.float64), exact, [[1], [axis]])
                axes = list(range(1, len(exact.shape)))
                exact = tf.transpose(turned, [*axes[:axis], 0, *axes[axis:]])
            return tf.cast(exact, values.dtype)

    def mask(self, copies: Any, parts: list[CopyParts]) -> list[Any]:
        """Masked copies; see `DeviceBackend`."""
        with memory_errors(), tf.device(self.device):
            return [_masked(own, copies, copies[:, 3 + place]) for place, own in enumerate(parts)]

    def hide(self, samples: Sequence[Any], which: Any, factors: Sequence[Factor], fill: Any) -> Any:
        """Copies of some samples; see `DeviceBackend`."""
        with memory_errors(), tf.device(self.device):
            values = tf.gather(tf.stack(list(samples)), tf.cast(which, tf.int64))
            hidden = [
                tf.gather(tf.gather(table, tf.cast(rows, tf.int64)), tf.cast(numbers, tf.int64), axis=1) > 0
                for numbers, table, rows in factors
            ]
            return tf.where(reduce(tf.logical_and, hidden), tf.cast(fill, values.dtype), values) if hidden else values

    def smooth_masks(self, patterns: Any, corners: Any, matrices: Sequence[Any], space: Sequence[int]) -> Any:
        """Parts of enlarged patterns, computed in float64, since float32 may be TF32; see `DeviceBackend`."""
        with memory_errors(), tf.device(self.device):
            masks = tf.cast(patterns, tf.float64)
            for axis, (matrix, size) in enumerate(zip(matrices, space, strict=True)):
                rows = tf.cast(corners[:, axis, None], tf.int64) + tf.range(size, dtype=tf.int64)
                axes = [a for a in range(len(masks.shape)) if a not in (0, 1 + axis)]
                moved = tf.transpose(masks, (0, 1 + axis, *axes))
                flat = tf.reshape(moved, (*moved.shape[:2], -1))
                enlarged = tf.gather(tf.cast(matrix, tf.float64), rows) @ flat
                back = [0, *range(2, 2 + axis), 1, *range(2 + axis, len(masks.shape))]
                masks = tf.transpose(tf.reshape(enlarged, (len(rows), size, *moved.shape[2:])), back)
            return tf.cast(masks, patterns.dtype)

    def dim(self, sample: Any, masks: Any, fill: Any) -> Any:
        """Copies of one sample; see `DeviceBackend`."""
        with memory_errors(), tf.device(self.device):
            return masks[..., None] * sample + (1 - masks[..., None]) * tf.cast(fill, sample.dtype)

    def weigh(self, masks: Any, scores: Any) -> Any:
        """Masks weighted by scores; see `DeviceBackend`."""
        with memory_errors(), tf.device(self.device):
            weights = tf.reshape(tf.cast(scores, masks.dtype), (-1, *[1] * (len(masks.shape) - 1)))
            return tf.reduce_sum(tf.cast(masks * weights, tf.float64), axis=0)

    def predict(self, inputs: list[Any]) -> Any:
        """The model's outputs."""
        return self._predict(inputs)

    def score(self, outputs: Any, copies: Any, weights: list[Any], link: str) -> Any:
        """Scores (m,); see `DeviceBackend`."""
        with memory_errors(), tf.device(self.device):
            return weighed(outputs, tf.gather(tf.stack(weights), tf.cast(copies[:, 0], tf.int64)), link)

    def take(self, tensors: list[Any]) -> Array:
        """All numbers of tensors on the host; the one place that waits for the device."""
        with memory_errors(), tf.device(self.device):
            dtype = tf.float64 if any(tensor.dtype == tf.float64 for tensor in tensors) else tensors[0].dtype
            flat = [tf.cast(tf.reshape(tensor, [-1]), dtype) for tensor in tensors]
            return np.asarray(tf.concat(flat, axis=0).numpy())


def weighed(outputs: Any, weights: Any, link: str) -> Any:
    """Scores (m,): sum(link(outputs) · weights), both (m, *out)."""
    out = tuple(weights.shape[1:])
    if outputs.shape[1:].is_fully_defined():
        require_out(tuple(outputs.shape[1:]), out)
    outputs = tf.ensure_shape(outputs, (None, *out))  # a graph may not know the size of what it gives before it runs
    return tf.reduce_sum(
        LINKS[link](outputs) * tf.cast(weights, outputs.dtype), axis=list(range(1, len(outputs.shape)))
    )


def _masked(parts: CopyParts, copies: Any, pair: Any) -> Any:
    values = tf.gather(tf.stack(parts.samples), tf.cast(copies[:, 0], tf.int64))
    if not parts.ranks:
        return values

    def along(numbers: Any) -> Any:
        return tf.reshape(numbers, (-1, *[1] * (len(values.shape) - 1)))

    numbered = tf.maximum(pair, 0)
    fill = tf.floor(numbered / PAIR)
    fills = tf.gather(_stacked(parts.fills), tf.cast(fill, tf.int64))
    ranks = tf.gather(_stacked(parts.ranks), tf.cast(numbered - PAIR * fill, tf.int64))
    end, bit = along(copies[:, 1]), along(copies[:, 2])
    below = ranks < tf.where(end < 0, -1 - end, end)
    shifted = tf.floor(ranks / 2 ** tf.maximum(bit, 0))
    among = tf.equal(shifted - 2 * tf.floor(shifted / 2), 1)
    hidden = tf.math.logical_xor(tf.where(bit < 0, below, among), end < 0)
    return tf.where(tf.logical_and(hidden, along(pair) >= 0), fills, values)


def _stacked(tensors: list[Any]) -> Any:
    shape = np.broadcast_shapes(*(tuple(tensor.shape) for tensor in tensors))
    return tf.stack([tf.broadcast_to(tensor, shape) for tensor in tensors])
