"""Scores of copies that are made where the model runs; a sample's tensors stay there while it is at hand, scores to the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.devices import DeviceBackend, DeviceModel
from crossxai.question import Question, Rows
from crossxai.target import Target, apply_link, fits

EXACT = 2**24
"""Whole numbers up to which float32 holds every one, as some devices count in."""


def backend_of(question: Question) -> DeviceBackend | None:
    """Where copies are made; None where the model runs in the host's memory, or a sample has too many numbers."""
    backend = question.model.device_backend() if isinstance(question.model, DeviceModel) else None
    return None if sum(v[0].size for v in question.inputs) > EXACT else backend


class DeviceStream:
    """Copies of one question's samples on their way to their scores."""

    def __init__(self, question: Question, backend: DeviceBackend) -> None:
        self.question, self.backend = question, backend
        self._laid: dict[int, dict[tuple[Any, ...], Any]] = {}  # row → what is laid there of it
        self._first: list[Any] = []  # outputs of a few copies, whose kind is looked at on the host when all are scored

    def lay(self, row: int, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What lies on the device of a sample, made there or put there if it does not yet."""
        laid = self._laid.setdefault(row, {})
        if key not in laid:
            made = make()
            laid[key] = self.backend.put(made) if isinstance(made, np.ndarray) else made
        return laid[key]

    def sample(self, row: int, place: int) -> Any:
        """A sample's values of one modality there."""
        return self.lay(row, ("sample", place), partial(self.question.inputs[place].__getitem__, row))

    def forget(self, first: int) -> None:
        """Drop what lies on the device of samples before the first at hand: a stream goes sample by sample."""
        for row in [row for row in self._laid if row < first]:
            del self._laid[row]

    def scored(self, inputs: list[Any], copies: Any, rows: Rows, which: Rows) -> Any:
        """Scores (m,) of copies (m, …), of samples rows[which], there; of a target that the device does not know, on the host."""
        target, outputs = self.question.target, self.backend.predict(inputs)
        fits(outputs, target.out, which)
        if not Target.known_there(target):
            taken = self.backend.take([outputs]).reshape(outputs.shape)
            return np.array(target.score(taken, rows[which]))
        if not self._first:
            self._first = [outputs[:8]]
        weights = [self.lay(row, ("weights",), partial(target.weights.__getitem__, row)) for row in rows.tolist()]
        return self.backend.score(outputs, copies, weights, target.link)

    def take(self, tensors: list[Any]) -> npt.NDArray[np.float64]:
        """All numbers of tensors, or of arrays: the one place that waits. Raises `InvalidInput` as `apply_link` does."""
        if isinstance(tensors[0], np.ndarray):
            return np.concatenate(tensors).astype(np.float64)
        taken = self.backend.take([*tensors, *self._first]).astype(np.float64)
        if not self._first:
            return taken
        end = len(taken) - math.prod(self._first[0].shape)
        first = taken[end:].reshape(-1, self.question.target.out[-1])
        apply_link(first, self.question.target.link)  # type: ignore[arg-type]
        return taken[:end]
