"""One small torch model and the same images and maps, as crossxai and as Quantus take them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from networks import toys

from crossxai import Attribution, Modality, Question, Target
from crossxai.adapters.torch import TorchModel
from crossxai.model import Array

N, SIDE = 4, 16
LABELS = np.arange(N) % 3


@dataclass(frozen=True)
class Beside:
    """The question, and `call`: Quantus' metric of the same model, images and classes.

    All channels first there. Maps are neither normalised nor made absolute, and a metric never averages over samples.
    """

    question: Question
    net: Any

    def call(self, kind: Any, values: Array | None = None, masks: Array | None = None, **params: Any) -> Any:
        asked = {name: params.pop(name) for name in ("explain_func", "batch_size") if name in params}
        given = {"abs": False, "normalise": False, "disable_warnings": True, "display_progressbar": False, **params}
        given.setdefault("return_aggregate", False)
        return kind(**given)(
            model=self.net,
            x_batch=first(self.question.inputs[0]),
            y_batch=LABELS,
            a_batch=None if values is None else first(values).copy(),
            s_batch=None if masks is None else masks[:, None],
            channel_first=True,
            softmax=self.question.target.link == "softmax",
            device="cpu",
            **asked,
        )

    def answer(self, values: Array) -> Attribution:
        return Attribution((values,), self.question.modalities, self.question.ids, "test")

    def maps(self, channels: int = 1) -> Array:
        return np.random.default_rng(5).normal(size=(N, SIDE, SIDE, channels)).astype(np.float32)


@cache
def beside(link: str = "softmax") -> Beside:
    net = toys.torch_net()
    # Away from the ends of the range, so that no noise is cut off.
    images = 0.1 + 0.8 * toys.images(N)[:, 4 : 4 + SIDE, 4 : 4 + SIDE]
    target = Target.classes(LABELS, 3, link)  # type: ignore[arg-type]
    return Beside(Question(TorchModel(net, (Modality.image(),)), (images,), target, batch_size=64), net)


def first(array: Array) -> Array:
    """Channels last → channels first."""
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


def last(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(np.asarray(array), 1, -1))
