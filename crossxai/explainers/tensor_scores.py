"""Scores and gradients as tensors on the device where a model runs, for libraries of its own framework: inputs cross once, copies
and gradients stay there, and maps come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crossxai.batching import batched
from crossxai.devices import TensorModel
from crossxai.explainers.groups import FiniteQuestion
from crossxai.model import Array
from crossxai.question import Question
from crossxai.target import Target


def device_scores(question: Question, library: str) -> TensorScores | None:
    """The question's scores on its model's device; None where that is the host's memory, the model's tensors are not of that
    library ("torch" or "tensorflow"), or the target is not known there."""
    model, target = question.model, question.target
    if not isinstance(model, TensorModel) or model.tensor_library != library or not Target.known_there(target):
        return None
    device = model.tensor_device()
    kinds: dict[str, type[TensorScores]] = {"torch": _Torch, "tensorflow": _TensorFlow}
    return None if device is None else kinds[library](question, model, device)


class TensorScores:
    """Scores of copies, and their gradients, as tensors on the device; `check` looks at those so far that have to be finite, and
    waits for them."""

    def __init__(self, question: Question, model: TensorModel, device: Any) -> None:
        self.question, self.model, self.device = question, model, device
        self._laid: dict[str, Any] = {}  # weights, and inputs that are held, all samples of each
        self._asked: list[tuple[Any, Any]] = []

    def put(self, values: Any) -> Any:
        """An array or a tensor there; of anything else, itself."""
        raise NotImplementedError

    def score(self, inputs: Sequence[Any], rows: Any) -> Any:
        """Scores (m,) of copies of the free modalities; rows (m,): the samples that they were made from."""
        self.question.trusted()
        scores = self._joined(self._batches(inputs, rows, self.model.scores_there))
        if isinstance(self.question, FiniteQuestion):
            self._asked.append((scores, rows))
        return scores

    def score_and_grad(self, inputs: Sequence[Any], rows: Any) -> tuple[Any, list[Any]]:
        """The same, and the gradient at each free modality."""
        self.question.trusted(gradients=True)
        pairs = self._batches(inputs, rows, self.model.gradients_there)
        parts, gradients = zip(*pairs, strict=True)
        scores = self._joined(parts)
        self._asked.append((scores, rows))
        free = [m.name in self.question.free for m in self.question.model.modalities]
        columns = zip(*gradients, strict=True)
        return scores, [self._joined(column) for column, wanted in zip(columns, free, strict=True) if wanted]

    def check(self) -> None:
        """Raise `BrokenAssumption` where a score whose gradient was asked for was not finite, beside which a map may look
        ordinary; `Unsupported` where one was that a model is fitted to, see `FiniteQuestion`."""
        asked, self._asked = self._asked, []
        if asked:
            scores, numbers = (self._fetched(self._joined(column)) for column in zip(*asked, strict=True))
            rows = numbers.astype(np.intp)
            if isinstance(self.question, FiniteQuestion):
                self.question.require_finite(scores, rows)
            self.question.finite(scores, rows)

    def _batches(self, inputs: Sequence[Any], rows: Any, verb: Callable[..., Any]) -> list[Any]:
        """What the model's verb gives for every batch, sized as anywhere and halved where memory runs out."""
        target = self.question.target

        def work(part: Any) -> Any:
            start, end = int(part[0]), int(part[-1]) + 1
            own, given = rows[start:end], iter(inputs)
            full = [
                next(given)[start:end] if m.name in self.question.free else self._of(m.name, values, own)
                for m, values in zip(self.question.model.modalities, self.question.inputs, strict=True)
            ]
            return verb(full, self._of("", target.weights, own), target.link)

        return batched(len(rows), self.question.batch_size, work)

    def _of(self, name: str, values: Array, rows: Any) -> Any:
        if name not in self._laid:
            self._laid[name] = self.put(values)
        return self._taken(self._laid[name], rows)

    def _taken(self, values: Any, rows: Any) -> Any:
        """values[rows]."""
        raise NotImplementedError

    def _joined(self, parts: Sequence[Any]) -> Any:
        """Parts one after the other, without a way back for gradients."""
        raise NotImplementedError

    def _fetched(self, values: Any) -> Any:
        """A tensor as an array on the host."""
        raise NotImplementedError


class _Torch(TensorScores):
    def put(self, values: Any) -> Any:
        import torch

        if isinstance(values, tuple):
            return tuple(self.put(value) for value in values)
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(np.ascontiguousarray(values))
        return values.to(self.device) if isinstance(values, torch.Tensor) else values

    def _taken(self, values: Any, rows: Any) -> Any:
        return values[rows]

    def _joined(self, parts: Sequence[Any]) -> Any:
        import torch

        return torch.cat(list(parts)).detach()

    def _fetched(self, values: Any) -> Any:
        return values.cpu().numpy()


class _TensorFlow(TensorScores):
    def put(self, values: Any) -> Any:
        import tensorflow as tf

        # Few kernels of GPUs know truth values and small whole numbers, as weights are.
        wide = values.astype(np.float32) if values.dtype.kind in "biu" else values
        with tf.device(self.device):
            return tf.identity(wide)

    def _taken(self, values: Any, rows: Any) -> Any:
        import tensorflow as tf

        return tf.gather(values, tf.cast(rows, tf.int64))

    def _joined(self, parts: Sequence[Any]) -> Any:
        import tensorflow as tf

        return tf.stop_gradient(tf.concat(list(parts), axis=0))

    def _fetched(self, values: Any) -> Any:
        return values.numpy()
