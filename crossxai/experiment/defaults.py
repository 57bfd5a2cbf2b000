"""What an experiment asks that names no explainers or no metrics: one explainer per family that a model can answer, cheapest
first, and the areas of deletion and insertion from few passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai import explainers
from crossxai.attribution import Explainer
from crossxai.errors import CrossXAIError, Unsupported
from crossxai.experiment import loading
from crossxai.experiment.loading import LoadedModel
from crossxai.experiment.questions import questions
from crossxai.experiment.specification import Experiment, ExplainerSpec, MetricSpec
from crossxai.explainers import Method
from crossxai.explainers.installed import installed
from crossxai.files import Samples
from crossxai.model import Modality
from crossxai.question import Question

CANDIDATES: Mapping[str, tuple[str, ...]] = {
    "gradient": ("captum.saliency", "xplique.saliency", "reference.saliency"),
    "activation map": ("gradcam.gradcam", "captum.layer_grad_cam", "xplique.gradcam", "reference.gradcam"),
    "attention": ("attention.relevance", "attention.rollout"),
    "path": ("captum.integrated_gradients", "xplique.integrated_gradients", "reference.integrated_gradients"),
    "perturbation": ("captum.occlusion", "xplique.occlusion", "reference.occlusion"),
    "surrogate": ("lime.image", "lime.tabular", "captum.lime", "reference.lime"),
}
"""By family, who is asked: the first that is installed and that a model can answer."""
WHY = {
    "gradient": "how the score reacts to a small change of each value",
    "activation map": "where the last layers respond for what is explained",
    "attention": "which tokens the network attends to",
    "path": "the gradient added up on the way from zero to the input",
    "perturbation": "how the score falls where a window is covered",
    "surrogate": "a linear model of what segments of the input add",
}
LEFT_OUT = {
    "smoothing": "repeats a gradient under noise; captum.smooth_grad, say",
    "propagation": "rebuilds the network from ordinary layers; captum.deep_lift, say",
    "Shapley": "takes hundreds of passes; captum.kernel_shap, say",
}
"""Families that are never chosen, and why."""
COPIES = 200
"""Perturbed copies of a sample that a surrogate is fitted to, and windows that occlusion slides over at most."""
ACROSS = 7
"""Windows of occlusion side by side along an image, which overlap by half; and squares of a surrogate's grid."""
QUICKSHIFT = 160
"""Pixels a side from which on LIME's own segments are taken: 38 of a photograph at 224 pixels, 4 at 64."""


@dataclass(frozen=True)
class Chosen:
    """An explainer that nobody named: its family, why it is there, its passes per sample, and which models refuse it and why."""

    spec: ExplainerSpec
    family: str
    why: str
    passes: int
    refused: Mapping[str, str]

    def __str__(self) -> str:
        others = "".join(f"; {model} refuses" for model in self.refused)
        return f"{self.why}; {self.passes} pass{'es' if self.passes > 1 else ''} a sample{others}"


def completed(
    experiment: Experiment, samples: Samples, loaded: Mapping[str, LoadedModel]
) -> tuple[Experiment, dict[str, Any]]:
    """The experiment with what it does not name, and the manifest's entry about that; empty where it names all."""
    about: dict[str, Any] = {}
    if not experiment.explainers:
        asked: dict[str, Question] = {}
        for name, model in loaded.items():
            try:
                asked[name] = questions(experiment, samples, model, name).explained
            except CrossXAIError:
                continue  # the run says what is wrong with this model
        chosen, left_out = choose(asked, experiment.seed)
        experiment = experiment.model_copy(update={"explainers": tuple(one.spec for one in chosen)})
        about["explainers"] = [{"label": one.spec.shown, "family": one.family, "why": str(one)} for one in chosen]
        about["left_out"] = [{"family": family, "reason": reason} for family, reason in left_out.items()]
    if not experiment.metrics:
        metrics, about["metrics"] = metrics_for(samples, loaded)
        experiment = experiment.model_copy(update={"metrics": metrics})
    return experiment, about


def choose(asked: Mapping[str, Question], seed: int = 0) -> tuple[list[Chosen], dict[str, str]]:
    """One explainer per family that one of the models can answer, cheapest first, and the reasons of families left out.

    asked: each model's question. Asking costs what measuring the model's assumptions costs, which is done once, and a pass or two
    of one sample for maps of layers and of attention.
    """
    chosen: list[Chosen] = []
    left_out: dict[str, str] = {}
    for family, names in CANDIDATES.items():
        reasons: dict[str, str] = {}
        for name in names:
            reasons = {model: _refusal(name, question, seed) for model, question in asked.items()}
            answering = [question for model, question in asked.items() if not reasons[model]]
            if answering:
                spec = _specified(name, answering[0])
                forward, backward = _made(spec, seed).cost(answering[0])
                refused = {model: reason for model, reason in reasons.items() if reason}
                chosen.append(Chosen(spec, family, WHY[family], forward + backward, refused))
                break
        else:
            left_out[family] = next(iter(reasons.values()), "no model answers")
    return sorted(chosen, key=lambda one: one.passes), left_out | LEFT_OUT


def lines(about: Mapping[str, Any]) -> list[str]:
    """What was chosen and what was left out, in words, a line each."""
    said = []
    if "explainers" in about:
        said.append("No explainers were named: one of each family that a model can answer is asked, cheapest first.")
        said += [f"  {one['label']} ({one['family']}): {one['why']}" for one in about["explainers"]]
        said += [f"  left out, {one['family']}: {one['reason']}" for one in about["left_out"]]
    return [*said, *([about["metrics"]] if "metrics" in about else [])]


def metrics_for(samples: Samples, loaded: Mapping[str, LoadedModel]) -> tuple[tuple[MetricSpec, ...], str]:
    """Deletion and insertion of every modality that all models take, with fills that fit their preprocessing; in words."""
    known = [m for m in samples.modalities if all(m in one.model.modalities for one in loaded.values())]
    specs, words = [], dict[str, None]()
    for modality in known:
        fill: Any = "mean"
        said = f"each {modality.kind}'s own mean, since no model says what its preprocessing subtracts"
        if loaded and all(_subtracts(one.mean.get(modality.name, ()), modality) for one in loaded.values()):
            fill, said = "dataset_mean", "the mean that preprocessing subtracts"
        elif not modality.spatial:
            fill = {"dataset_mean": np.mean(samples.inputs[modality.name], axis=0, dtype=float).tolist()}
            said = "the mean of these samples"
        words[f"deletion puts in {said}"] = None
        about = {"modality": modality.name} if len(known) > 1 else {}
        ending = f" of {modality.name}" if about else ""
        for name, own in (("deletion", fill), ("insertion", "blur" if modality.spatial else fill)):
            params = {"steps": "auto", "fill": own, **about}
            specs.append(MetricSpec(name=name, params=params, label=f"{name}{ending}" if about else ""))
    if any(modality.spatial for modality in known):
        words["insertion starts from a blurred image"] = None
    return tuple(specs), (
        'No metrics were named: deletion and insertion are measured by steps = "auto", areas from a few points of each '
        f"curve; {', '.join(words)}."
    )


def _subtracts(mean: Sequence[float], modality: Modality) -> bool:
    """Whether this is a mean of inputs, and no end of their range, as where values are scaled alone."""
    low, high = modality.range or (-math.inf, math.inf)
    return bool(mean) and all(low < value < high for value in mean)


def _refusal(name: str, question: Question, seed: int) -> str:
    """Why an explainer cannot answer; "" if it can."""
    if not installed(explainers.discover()[name].library):
        return f"{name.partition('.')[0]} is not installed"
    try:
        explainer = _made(_specified(name, question), seed)
        part = explainer.ready(question)
        if explainer.needs in ("layers", "attention"):
            explainer(part[:1])
        else:
            explainer.cost(part)
    except CrossXAIError as error:
        return str(error)
    return ""


def _made(spec: ExplainerSpec, seed: int) -> Method:
    explainer: Explainer = loading.explainer(spec, seed)
    assert isinstance(explainer, Method)
    return explainer


def _specified(name: str, question: Question) -> ExplainerSpec:
    """The explainer's entry, with parameters that fit the size of the inputs; raises `Unsupported` where none do."""
    kind = explainers.discover()[name]
    return ExplainerSpec(name=name, profile=kind.profiles[0], params=_params(kind, question))


def _params(kind: type[Method], question: Question) -> dict[str, Any]:
    spaces = [values.shape[1:-1] for m, values in zip(question.modalities, question.values, strict=True) if m.spatial]
    side = min((min(space) for space in spaces), default=0)
    if kind.family == "surrogate":
        if not side or "patch" not in kind.__dataclass_fields__:
            return {"samples": COPIES}
        # Of a smaller image, quickshift makes a handful of segments, or one.
        fine = kind.name == "lime.image" and side >= QUICKSHIFT
        return {"samples": COPIES, **({} if fine else {"segmentation": "grid", "patch": math.ceil(side / ACROSS)})}
    if kind.family == "perturbation" and side:
        patch = max(1, round(side / ACROSS))
        while patch <= side:
            stride = max(1, patch // 2)
            windows = sum(math.prod(math.ceil((s - patch) / stride) + 1 for s in space) for space in spaces)
            if windows <= COPIES:
                return {"patch": patch, "stride": stride}
            patch += max(1, patch // 4)
        raise Unsupported(
            f"inputs of {' and '.join(' × '.join(map(str, space)) for space in spaces)} take too many windows"
        )
    return {}
