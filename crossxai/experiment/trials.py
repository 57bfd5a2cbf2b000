"""Explainers tried on two samples before a run: passes of theirs, and whose maps are equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossxai.assumptions import probes
from crossxai.attribution import Attribution, Explainer
from crossxai.errors import CrossXAIError, InvalidInput, Unsupported
from crossxai.experiment.counting import Counted
from crossxai.explainers import Method
from crossxai.explainers.families import GroupMethod
from crossxai.explainers.functions import UserExplainer
from crossxai.model import Model
from crossxai.question import Question

FEW = 20
"""Passes of a sample up to which an explainer is tried on two, so that what it measures beforehand is counted."""
MORE = 256
"""Passes up to which it is if there is a method of the same name, whose maps may be equal; from `SAMPLES` on."""
SAMPLES = 10


class Trials:
    """Maps of two samples by explainers of a model, and stand-ins for those of all samples.

    missing: whether one of several explainers of the same name was too costly to try, so that they may be equal or not.
    """

    def __init__(self, model: Model, explainers: Sequence[Explainer], counted: Counted) -> None:
        self.model, self.counted = model, counted
        self.methods = [_method(explainer) for explainer in explainers]
        self.missing = False
        self._tried: dict[str, Attribution] = {}
        self._stand_ins: dict[str, Attribution] = {}

    def add(self, label: str, explainer: Method, question: Question, each: float) -> None:
        """Try an explainer that makes `each` passes of a sample: what one of layers, attention or a twin measures of the model
        before its first map is measured, and counted, now."""
        if explainer.needs == "nothing":
            return
        shared = self.methods.count(_method(explainer)) > 1
        if each > (MORE if shared and len(question) >= SAMPLES else FEW):
            self.missing |= shared
            for one in explainer.parts(question) if explainer.needs == "layers" else ():
                one.cam_layer(getattr(explainer, "layer", ""))
            return
        few = question[probes.telling(question.inputs)]  # on these, what the model does is measured
        self._tried[label] = explainer(few)
        forward, backward = passes(explainer, few)
        # Of the passes of a twin, one of each sample is the model's.
        self.counted.add(self.model, *((-len(few), 0) if explainer.needs == "module" else (-forward, -backward)))

    def stand_in(self, label: str, explainer: Explainer, question: Question) -> Attribution:
        """Maps that have no ties, and are those of another explainer if the two that were tried are; a control's own."""
        question = explainer.explainable(question) if isinstance(explainer, Method) else question
        maps = explainer(question) if explainer.needs == "nothing" else self._equal_to(label)
        if maps is None:
            rng = np.random.default_rng([len(label), *label.encode()])
            values = tuple(
                rng.normal(size=(*v.shape[:-1], 1 if m.spatial else v.shape[-1])).astype(np.float32)
                for m, v in zip(question.modalities, question.values, strict=True)
            )
            extras = {"completeness_gap": np.zeros(len(question))}
            maps = Attribution(values, question.modalities, question.ids, explainer.name, extras=extras)
        self._stand_ins[label] = maps
        return maps

    def _equal_to(self, label: str) -> Attribution | None:
        """The stand-in of an explainer whose maps were equal to these, none of them constant."""
        own = self._tried.get(label)
        if own is None or any(v.size > 1 and np.ptp(v) == 0 for v in own.values):
            return None
        for name, maps in self._stand_ins.items():
            other = self._tried.get(name)
            if other and other.modalities == own.modalities and all(map(np.array_equal, own.values, other.values)):
                return maps
        return None


def _method(explainer: Explainer) -> str:
    """What a method is called in every library."""
    return explainer.name.rpartition(".")[2]


class UnknownPasses(CrossXAIError):
    """Nobody knows beforehand how many passes an explainer makes."""


def passes(explainer: Method, question: Question) -> tuple[int, int]:
    """(forward, backward) for all samples; where the number of groups depends on the image, image by image."""
    try:
        forward, backward = explainer.cost(question)
        return len(question) * forward, len(question) * backward
    except InvalidInput:
        if not isinstance(explainer, GroupMethod):
            raise
    except Unsupported as error:
        if isinstance(explainer, UserExplainer):
            raise UnknownPasses(f"{error}; one for each sample is counted") from error
        raise
    each = [explainer.cost(question[row : row + 1]) for row in range(len(question))]
    return sum(forward for forward, _ in each), sum(backward for _, backward in each)
