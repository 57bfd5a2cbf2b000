"""Axioms: what a method's definition promises of its maps, whoever computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from crossxai.model import Array

AxiomName = Literal[
    "completeness", "dummy", "linearity", "symmetry", "implementation invariance", "shift invariance"
]  # fmt: skip


@dataclass(frozen=True)
class Axiom:
    """One axiom.

    about: what it says, as a clause. measured: on what, as a clause. share: what an error is a share of.
    """

    about: str
    measured: str
    share: str


AXIOMS: dict[AxiomName, Axiom] = {
    "completeness": Axiom(
        "a map adds up to the score of the input less that of the baseline",
        "by two passes, of the inputs and of the baseline; where groups are hidden, each counts once",
        "of that change, of all samples together",
    ),
    "dummy": Axiom(
        "an input that the model does not read gets 0",
        "on the model with a constant in place of the left half of the image, of the first half of the columns",
        "of the map's norm",
    ),
    "linearity": Axiom(
        "the map of a weighted sum of two scores is that sum of their maps",
        "on twice the score that is explained less that of another class; of one output, on minus twice its score",
        "of the norms that are added",
    ),
    "symmetry": Axiom(
        "two inputs that can be exchanged without any effect get the same",
        "on the model that sees the mean of an image and its mirror image, where the image is its own",
        "of the map's norm",
    ),
    "implementation invariance": Axiom(
        "two networks that are one function get one map",
        "between frameworks, and on the network with its batch norms folded into its convolutions",
        "of the map's norm",
    ),
    "shift invariance": Axiom(
        "a constant that is added to every input, and that the model takes off again, changes nothing",
        "with a constant as large as the range of the inputs; a baseline moves along",
        "of the map's norm",
    ),
}
"""Every axiom that is measured."""

_GRADIENT: dict[AxiomName, str] = {
    "dummy": "the gradient at what is not read is 0",
    "symmetry": "exchanging two inputs exchanges their gradients",
    "implementation invariance": "Sundararajan et al. 2017, section 2.2: the gradient is the function's",
    "shift invariance": "Kindermans et al. 2019: the gradient is the same at the shifted input",
}
_SCORES: dict[AxiomName, str] = {
    "implementation invariance": "it reads scores alone",
    "shift invariance": "what hides an input moves along, so that every score is the same",
}
_LAYER: dict[AxiomName, str] = {
    "shift invariance": "a layer's activation and gradient are the same at the shifted input",
}
_LINEAR_IN_SCORES = "it is linear in the scores of the copies"

PROMISES: dict[str, Mapping[AxiomName, str]] = {
    "saliency": _GRADIENT,
    "gradient_x_input": {
        "dummy": _GRADIENT["dummy"],
        "linearity": "the gradient of a sum is the sum of gradients",
        "symmetry": _GRADIENT["symmetry"],
        "implementation invariance": _GRADIENT["implementation invariance"],
    },
    "integrated_gradients": {
        "completeness": "Sundararajan et al. 2017, proposition 1, of the integral; the more steps, the closer",
        "dummy": "Sundararajan et al. 2017, proposition 2: every path method does",
        "linearity": "Sundararajan et al. 2017, proposition 2: every path method does",
        "symmetry": "Sundararajan et al. 2017, theorem 1: no other path method does",
        "implementation invariance": _GRADIENT["implementation invariance"],
        "shift invariance": "Kindermans et al. 2019, where the baseline moves along",
    },
    "smooth_grad": {
        "dummy": _GRADIENT["dummy"],
        "linearity": "the gradient of a sum is the sum of gradients",
        "implementation invariance": _GRADIENT["implementation invariance"],
        "shift invariance": _GRADIENT["shift invariance"],
    },
    "gradcam": _LAYER,
    "gradcam_plus_plus": _LAYER,
    "occlusion": {
        "dummy": "hiding what is not read changes no score; where every window over an entry is unread",
        "linearity": _LINEAR_IN_SCORES,
        "symmetry": "mirrored windows change the score alike; where windows lie symmetrically",
        **_SCORES,
    },
    "rise": {"linearity": _LINEAR_IN_SCORES, **_SCORES},
    "guided_backprop": {
        "shift invariance": "Kindermans et al. 2019: what reaches the input is the same at the shifted one"
    },
    "deep_lift": {
        "completeness": "Shrikumar et al. 2017, equation 1, summation to delta",
        "linearity": "Shrikumar et al. 2017, equation 3: multipliers are chained, and linear in the last one",
        "shift invariance": "where the baseline moves along, every difference from it is the same",
    },
    "lime": {"linearity": "ridge regression is linear in the scores of the copies", **_SCORES},
    "kernel_shap": {
        "completeness": "Lundberg & Lee 2017, property 1, local accuracy",
        "linearity": "least squares are linear in the scores of the coalitions",
        **_SCORES,
    },
}
"""Method -> axiom that its canonical definition keeps -> why, or where that is shown.

What is kept in expectation alone, such as symmetry by methods that draw, is no promise of one map.
"""


@dataclass(frozen=True)
class AxiomCheck:
    """Whether one answer keeps one axiom.

    errors: per sample (m,), relative; see `AXIOMS`. tolerance: the error up to which the axiom counts as kept: rounding, and for
    completeness twice what the definition itself misses, since an integral in steps is never exact. beside: of implementation
    invariance, what the other network is. cause: of a broken completeness, the one convention that breaks it, in words, as far as
    it is known. refusal: why it was not asked.
    """

    axiom: AxiomName
    errors: Array = field(default_factory=lambda: np.zeros(0))
    tolerance: float = 0.0
    beside: str = ""
    cause: str = ""
    refusal: str = ""

    @property
    def error(self) -> float:
        """Of the worst sample; of completeness, of all together, since one whose score hardly changes has no share of its own.

        NaN where it was not asked.
        """
        if not len(self.errors):
            return float("nan")
        return float(self.errors.mean() if self.axiom == "completeness" else self.errors.max())

    @property
    def kept(self) -> bool | None:
        """Whether the axiom is kept; None where it was not asked."""
        return None if self.refusal else self.error <= self.tolerance

    def __repr__(self) -> str:
        found = self.refusal or f"{'kept' if self.kept else 'broken'}, {self.error:.2g}"
        return f"AxiomCheck({self.axiom}{f' beside {self.beside}' if self.beside else ''}: {found})"
