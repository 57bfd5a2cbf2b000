"""Captum on the device where a torch module runs: inputs cross once, copies and gradients stay there, and maps come back."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai.batching import batched
from crossxai.devices import TensorModel
from crossxai.model import Array
from crossxai.question import Question
from crossxai.target import Target


def device_scores(question: Question) -> DeviceScores | None:
    """The question's scores on its model's device; None where that is the host's memory, or the target is not known there."""
    model, target = question.model, question.target
    if not isinstance(model, TensorModel) or not Target.known_there(target):
        return None
    device = model.tensor_device()
    return None if device is None else DeviceScores(question, model, device)


class DeviceScores:
    """Scores of copies, and their gradients, as tensors on the device; `check` looks at all scores so far, and waits for them."""

    def __init__(self, question: Question, model: TensorModel, device: Any) -> None:
        self.question, self.model, self.device = question, model, device
        self._laid: dict[str, Any] = {}  # weights, and inputs that are held, all samples of each
        self._asked: list[tuple[Any, Any]] = []

    def put(self, values: Any) -> Any:
        """An array or a tensor there; of anything else, itself."""
        import torch

        if isinstance(values, tuple):
            return tuple(self.put(value) for value in values)
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(np.ascontiguousarray(values))
        return values.to(self.device) if isinstance(values, torch.Tensor) else values

    def score(self, inputs: tuple[Any, ...], rows: Any) -> Any:
        """Scores (m,) of copies of the free modalities; rows (m,): the samples that they were made from."""
        self.question.trusted()
        return self._kept(rows, self._batches(inputs, rows, self.model.scores_there))

    def score_and_grad(self, inputs: tuple[Any, ...], rows: Any) -> tuple[Any, list[Any]]:
        """The same, and the gradient at each free modality."""
        import torch

        self.question.trusted(gradients=True)
        pairs = self._batches(inputs, rows, self.model.gradients_there)
        scores, gradients = zip(*pairs, strict=True)
        free = [m.name in self.question.free for m in self.question.model.modalities]
        columns = zip(*gradients, strict=True)
        joined = [torch.cat(column) for column, wanted in zip(columns, free, strict=True) if wanted]
        return self._kept(rows, list(scores)), joined

    def check(self) -> None:
        """Raise `BrokenAssumption` where a score so far was not finite, beside which a map may look ordinary."""
        import torch

        asked, self._asked = self._asked, []
        if asked:
            scores, rows = (torch.cat(column).cpu().numpy() for column in zip(*asked, strict=True))
            self.question.finite(scores, rows)

    def _kept(self, rows: Any, scores: list[Any]) -> Any:
        import torch

        every = torch.cat(scores)
        self._asked.append((every.detach(), rows))
        return every

    def _batches(self, inputs: tuple[Any, ...], rows: Any, verb: Any) -> list[Any]:
        """What the model's verb gives for every batch, sized as anywhere and halved where memory runs out."""
        target = self.question.target

        def work(part: Any) -> Any:
            start, end = int(part[0]), int(part[-1]) + 1
            own, given = rows[start:end], iter(inputs)
            full = [
                next(given)[start:end].detach() if m.name in self.question.free else self._lay(m.name, values)[own]
                for m, values in zip(self.question.model.modalities, self.question.inputs, strict=True)
            ]
            return verb(full, self._lay("", target.weights)[own], target.link)

        return batched(len(rows), self.question.batch_size, work)

    def _lay(self, name: str, values: Array) -> Any:
        if name not in self._laid:
            self._laid[name] = self.put(values)
        return self._laid[name]
