"""Xplique's methods that rewrite a network's ReLUs, on any model that gives a graph: they run on its Keras twin.

A bridge has no ReLUs to rewrite, and neither has a Keras model what is inside another layer or fused into one: there the
library gives the plain gradient without a word. The twin is flat, and every activation is a layer of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from crossxai.attribution import Needs
from crossxai.errors import Unsupported
from crossxai.explainers.keras_twin import TwinScores
from crossxai.explainers.method import Answer, Passes
from crossxai.explainers.xplique_bridge import XpliqueMethod
from crossxai.model import Array
from crossxai.process import require, streams_kept
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class _Rewritten(XpliqueMethod):
    """Native: mean over channels. Canonical: summed over channels. The extra `twin_gap` (n,) is |score of the rewritten twin -
    score of the model|. A network without a ReLU is `Unsupported`, since the map would be the plain gradient. ReLU6 counts as
    a ReLU (guided, Xplique lets gradients through above 6 too); no other activation does.
    """

    family: ClassVar = "propagation"
    needs: ClassVar[Needs] = "module"
    conventions: ClassVar = {"native": "mean over channels", "canonical": "summed over channels"}
    kind: ClassVar[str]

    def passes(self, question: Question) -> Passes:
        return 2, 1  # one forward pass more than the map needs: the model's own score, for the gap

    def _explain(self, library: Any, question: Question, rows: Array) -> Answer:
        (values,) = question.values
        scores = TwinScores(question)
        network = scores.found.module
        overriding = require("xplique.commons.model_override", "xplique", self.name)
        batching = require("xplique.commons.operators_operations", "xplique", self.name).operator_batching
        if not any(overriding.is_relu(layer) for layer in network.layers):
            raise Unsupported(
                f"{self.name} changes the gradient at ReLUs, and model {question.model.name!r} has none: use xplique.saliency"
            )
        with _forgotten(library, network), streams_kept():  # Xplique copies the network, and new layers draw weights
            method = getattr(library, self.kind)(
                network,
                operator=scores.operator,
                batch_size=question.batch_size,
                reducer="mean" if self.profile == "native" else "sum",
            )
            # Not traced: that takes longer than a few batches, and TensorFlow keeps the graph of every custom gradient for ever.
            method.batch_gradient = batching(method.gradient.python_function)
            return (method(values, rows).numpy(),), {"twin_gap": scores.gap()}


@contextmanager
def _forgotten(library: Any, network: Any) -> Iterator[None]:
    """Xplique keeps every Keras model it has seen, for ever, in a class: not this one."""
    kept = library.Saliency._cache_models
    try:
        yield
    finally:
        for key in [key for key, model in kept.items() if model is network]:
            del kept[key]


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(_Rewritten):
    __doc__ = f"""Gradient whose negative parts are cut at every ReLU on the way back (Springenberg et al. 2014).

    {_Rewritten.__doc__}"""

    name: ClassVar = "xplique.guided_backprop"
    summary: ClassVar = "gradient through positive paths"
    reference: ClassVar = "Springenberg et al. 2014"
    kind: ClassVar = "GuidedBackprop"


@dataclass(frozen=True, kw_only=True)
class DeconvNet(_Rewritten):
    __doc__ = f"""Gradient that passes every ReLU backwards through a ReLU instead of its derivative (Zeiler & Fergus 2014).

    {_Rewritten.__doc__}"""

    name: ClassVar = "xplique.deconv_net"
    summary: ClassVar = "gradient with ReLUs applied backwards"
    reference: ClassVar = "Zeiler & Fergus 2014"
    kind: ClassVar = "DeconvNet"
