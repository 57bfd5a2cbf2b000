"""Captum's methods that hook layers, on the twin of any model that gives a graph; hooks never see a model behind a bridge.
The extra `twin_gap` (n,) of every map here is |score of the twin - score of the model|."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai.errors import InvalidInput
from crossxai.explainers.captum import captum, joined, rules, signed
from crossxai.explainers.method import Maps, Method, Passes, explainer, profiles
from crossxai.explainers.native import quiet
from crossxai.explainers.twins import TorchTwinScores
from crossxai.model import Array
from crossxai.question import Question, Rows


def _attribute(method: Any, twin: TorchTwinScores, rows: Rows, **options: Any) -> Any:
    with quiet():
        return method.attribute(twin.inputs(rows), additional_forward_args=(twin.rows(rows),), **options)


def _in_pieces(
    method: Any, twin: TorchTwinScores, prepare: Callable[[], None] | None = None
) -> tuple[list[Array], Array]:
    """Maps and the twin's scores of all samples, batch by batch; prepare: what to do before each."""
    size, n = twin.question.batch_size, len(twin.question)
    pieces, scores = [], []
    for start in range(0, n, size):
        if prepare is not None:
            prepare()
        twin.seen.clear()
        pieces.append(twin.arrays(_attribute(method, twin, np.arange(start, min(start + size, n)))))
        scores.append(twin.seen[0])
    return joined(pieces), np.concatenate(scores)


@dataclass(frozen=True, kw_only=True)
@profiles(native="per channel", canonical="summed over channels")
class _Hooked(Method, needs="module", family="propagation", joint=True, constant_passes=(2, 1)):
    """What methods on a twin share."""

    def explain(self, question: Question) -> Maps:
        twin = TorchTwinScores(question)
        maps, scores = _in_pieces(self._method(captum(self.name), twin), twin)
        return signed(self, question, maps), {"twin_gap": twin.gap(scores)}

    def _method(self, library: Any, twin: TorchTwinScores) -> Any:
        """Captum's method on the twin."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class _Guided(_Hooked):
    """What methods share that change the gradient at ReLUs.

    Notes
    -----
    A network without a ReLU is `Unsupported`, since the map would be the plain gradient. ReLU6 counts as a ReLU.
    """

    def _method(self, library: Any, twin: TorchTwinScores) -> Any:
        rules.hookable_relus(twin, self.name)
        return getattr(library, self.original)(twin.module)


@explainer("captum.guided_backprop", "gradient through positive paths", "Springenberg et al. 2014")
class GuidedBackprop(_Guided):
    """Gradient whose negative parts are cut at every ReLU on the way back (Springenberg et al. 2014)."""


@explainer("captum.deconvolution", "gradient with ReLUs applied backwards", "Zeiler & Fergus 2014")
class Deconvolution(_Guided):
    """Gradient that passes every ReLU backwards through a ReLU instead of its derivative (Zeiler & Fergus 2014)."""


@explainer("captum.guided_grad_cam", "guided backpropagation times Grad-CAM", "Selvaraju et al. 2017")
class GuidedGradCam(_Hooked, kinds=("image", "volume"), joint=False, constant_passes=(3, 2)):
    """Guided backpropagation times Grad-CAM at a layer (Selvaraju et al. 2017, section 3.2).

    Grad-CAM goes through a ReLU and is enlarged to the nearest pixel, as Captum does.
    """

    layer: str = ""

    def _method(self, library: Any, twin: TorchTwinScores) -> Any:
        layer = twin.layer(self.layer, self.name)
        rules.hookable_relus(twin, self.name)
        return library.GuidedGradCam(twin.module, layer)


@explainer("captum.deep_lift", "contributions of differences from a baseline, layer by layer", "Shrikumar et al. 2017")
@profiles(
    native="per channel, no max-pool rule after an activation",
    canonical="summed over channels, max-pool rule everywhere",
)
class DeepLift(_Hooked, constant_passes=(3, 2)):
    """DeepLIFT's Rescale rule against a baseline (Shrikumar et al. 2017, section 3.5.1).

    Captum has rules for ReLU, ELU, leaky ReLU, sigmoid, tanh, softplus, softmax and max-pooling, and takes the plain gradient
    of any other activation without a word; other activations of one input (ReLU6, GELU, SiLU, hard sigmoid, PReLU, …) get its
    Rescale rule here, and what has none, attention and layer norms for example, is `Unsupported`. Captum's rules for softmax and
    max-pooling mix the samples of a batch, so each sample is explained alone.

    The canonical profile is mended so that contributions add up: the rule for max-pooling holds directly after an activation
    too (where Captum's gets lost) and counts overlapping windows all (Captum keeps one of them), and a softmax is not centred.
    The extra `completeness_gap` (n,) is the sum of the map minus score(input) - score(baseline); a product of two activations
    leaves one in either profile.

    Parameters
    ----------
    baseline : float, default 0.0
        What differences are taken from: one value for every entry, in raw input units (0 is black).
    """

    baseline: float = 0.0

    def explain(self, question: Question) -> Maps:
        maps, extras = self.contributions(question, self.profile == "canonical")
        return signed(self, question, maps), extras

    def contributions(
        self, question: Question, mended: bool, start: list[Array] | None = None
    ) -> tuple[list[Array], dict[str, Array]]:
        """The contributions per channel and the extras.

        mended: whether Captum's rules are, so that they add up. start: baselines (baselines, *shape) by free modality.
        """
        twin = TorchTwinScores(question)
        method = rules.rescaling(getattr(captum(self.name), type(self).__name__), twin, mended)
        per_sample, scores, gaps = [], [], []
        for row in range(len(question)):
            twin.seen.clear()
            baselines = tuple(twin.tensor(b) for b in start or self._baselines(question))
            maps = twin.arrays(_attribute(method, twin, np.array([row]), baselines=baselines))
            ours, theirs = np.split(twin.seen[0], 2)  # the sample beside each of its baselines
            per_sample.append(maps)
            scores.append(ours[0])
            gaps.append(sum(float(v.sum()) for v in maps) - float((ours - theirs).mean()))
        extras = {"completeness_gap": np.array(gaps), "twin_gap": twin.gap(np.array(scores))}
        return joined(per_sample), extras

    def _baselines(self, question: Question) -> list[Array]:
        """One array per free modality: (baselines, *shape)."""
        return [np.full_like(v[:1], self.baseline) for v in question.values]


@explainer("captum.deep_lift_shap", "DeepLIFT averaged over a set of baselines", "Lundberg & Lee 2017")
class DeepLiftShap(DeepLift, family="Shapley"):
    """Mean of DeepLIFT over a set of baselines (Lundberg & Lee 2017, section 4.2).

    Captum asks for the set and has no default; ours is `baselines` constant inputs, evenly spaced from the lowest to the
    highest value of each modality's declared range: with 3, black, grey and white. A modality that declares none has
    `baseline` in all of them. Rules, profiles and extras as for `captum.deep_lift`; the gap is against the mean score of the
    baselines.

    Parameters
    ----------
    baselines : int, default 3
        Constant inputs, evenly spaced over each modality's declared range, at least 2.
    """

    baselines: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baselines < 2:
            raise InvalidInput(
                f"{self.name}: baselines must be at least 2, got {self.baselines}; or write captum.deep_lift"
            )

    def passes(self, question: Question) -> Passes:
        return 2 * self.baselines + 1, 2 * self.baselines

    def _baselines(self, question: Question) -> list[Array]:
        baselines = []
        for modality, values in zip(question.modalities, question.values, strict=True):
            low, high = modality.range or (self.baseline, self.baseline)
            levels = np.linspace(low, high, self.baselines).astype(values.dtype)
            baselines.append(
                np.broadcast_to(levels.reshape(-1, *[1] * (values.ndim - 1)), (len(levels), *values.shape[1:]))
            )
        return baselines


@explainer("captum.lrp", "relevance handed back layer by layer", "Bach et al. 2015")
class Lrp(_Hooked, choices={"rule": rules.LRP_RULES}, positive=("epsilon",), constant_passes=(3, 1)):
    """Layer-wise relevance propagation (Bach et al. 2015, eq. 58).

    Layers other than convolutions follow the epsilon rule. What has no rule in Captum gets one: other linear steps
    (standardising, flattening, padding, concatenation, transposed convolution, …) the epsilon rule; other activations, softmax
    and sigmoid of the target included, pass relevance unchanged; a product shares it equally between its factors. Attention,
    layer norms and what else has no rule is `Unsupported`. The extra
    `completeness_gap` (n,) is the sum of the map minus the score: what biases absorb, 0 without them. On a linear model the map
    is w · x.

    Parameters
    ----------
    rule : str, default 'epsilon'
        Of convolutions: "epsilon", Captum's default, with which the map of a network of ReLUs and max-pools is input × gradient
        (Ancona et al. 2018); "gamma" (0.25, Montavon et al. 2019) and "alpha1_beta0" favour positive weights.
    epsilon : float, default 1e-09
        Added to denominators by the epsilon rule.
    """

    rule: str = "epsilon"
    epsilon: float = 1e-9

    def explain(self, question: Question) -> Maps:
        twin = TorchTwinScores(question)
        twin.require_rules(rules.WITH_RULES, "LRP")
        rules.split_shared_activations(twin)
        arrays, score = _in_pieces(
            captum(self.name).LRP(twin.module), twin, lambda: rules.attach_lrp_rules(twin, self.rule, self.epsilon)
        )
        total = np.sum([v.reshape(len(v), -1).sum(axis=1) for v in arrays], axis=0)
        extras = {"completeness_gap": np.asarray(total - score), "twin_gap": twin.gap(score)}
        return signed(self, question, arrays), extras
