"""Facts on the network: where activation maps are drawn, which layers run twice, what has no translation, what is called, and
whether it was trained: suspicions, each with the number it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, spearmanr

from crossxai.assumptions.cam_layers import CamLayers
from crossxai.assumptions.facts import Fact, hints_of
from crossxai.assumptions.probes import two_samples
from crossxai.errors import CrossXAIError
from crossxai.model import Array, Differentiable, Inputs, Layered, Model, Randomisable
from crossxai.porting import twin
from crossxai.porting.graph import Traceable
from crossxai.question import Question
from crossxai.target import Target


def layer_facts(model: Model, inputs: Inputs) -> list[Fact]:
    """Facts on a model whose layers can be read; nothing for others."""
    facts = []
    if isinstance(model, Layered):
        facts += [_drawn(model, inputs, m.name) for m in model.modalities if m.kind == "image"]
        facts += [*_shown(hints_of(model)), *_called(model, inputs)]
    if isinstance(model, Traceable):
        facts.append(_translated(model, inputs))
    return facts


def drawn_at(model: Layered, inputs: Inputs, modality: str) -> str:
    """The layer where activation maps of a modality are drawn, its axes and its grid, in words; raises `Unsupported` where no
    layer has space that the modality reaches."""
    layers = about_layers(model, inputs, modality)
    return layers.words(layers.default())


def about_layers(model: Layered, inputs: Inputs, modality: str) -> CamLayers:
    """The layers as a modality sees them, whatever is explained: a mixture of all outputs stands for it."""
    few = tuple(v[:2] for v in inputs)
    outputs = np.asarray(model.predict(few))
    mixture = np.random.default_rng(3).normal(size=outputs.shape[1:])  # the sum of a softmax never moves
    return Question(model, few, Target(np.broadcast_to(mixture, outputs.shape))).only(modality).layers


def _drawn(model: Layered, inputs: Inputs, modality: str) -> Fact:
    name, how = f"activation maps of {modality}", "the layers' definitions, and sixteen passes with a cell replaced"
    try:
        return Fact(name, "holds", drawn_at(model, inputs, modality), how)
    except CrossXAIError as error:
        return Fact(name, "note", str(error), how, "Grad-CAM and its like refuse")


def _shown(hints: dict[str, Any]) -> Iterator[Fact]:
    if names := hints.get("in place"):
        yield Fact(
            "in-place activations", "note", f"{len(names)} layers work in place ({', '.join(names[:3])} …)", "the layers",
            "recorders of other libraries read an activation after it was overwritten; here copies are read",
        )  # fmt: skip
    if names := hints.get("hooked"):
        yield Fact(
            "hooks", "note", f"{len(names)} layers have hooks of someone else ({', '.join(names[:3])})", "the layers",
            "a hook may change what is computed, or its gradient", "handle.remove() for each",
        )  # fmt: skip


def _translated(model: Traceable, inputs: Inputs) -> Fact:
    name, how = "twin", "the network read as a graph, rebuilt in torch, and compared on real, shuffled and noise inputs"
    try:
        copy = twin(model, tuple(v[:2] for v in inputs), "torch")
    except CrossXAIError as error:
        breaks = "DeepLIFT, LRP, guided backpropagation and their like refuse"
        return Fact(name, "note", str(error), how, breaks, "explainers that read no layers")
    return Fact(name, "holds", f"its outputs are within {copy.gap:.1g} of what they vary by", how)


RECORDED = "one forward pass with every call recorded"
SMALL, LARGE = 0.05, 20.0
"""A network that multiplies its input by less than `SMALL` expects values up to 255; by more than `LARGE`, values up to 1."""


def _called(model: Model, inputs: Inputs) -> Iterator[Fact]:
    """Facts on a model that tells what it calls (`calls`); nothing for others."""
    if not hasattr(model, "calls"):
        return
    calls = model.calls(tuple(v[:1] for v in inputs))
    if (fact := _range(model, inputs, calls, hints_of(model).get("normalising", {}))) is not None:
        yield fact
    if calls.moved:
        yield Fact(
            "layout of the inputs", "note", f"the network itself moves axes before its first layer: {', '.join(calls.moved)}",
            RECORDED, "adapters give torch's order (n, channel, y, x): a network made for another mixes channels with places",
            "a network that takes (n, channel, y, x), or a wrapper that undoes the step",
        )  # fmt: skip
    if calls.functional:
        some = [f"{', '.join(names)} in {layer}" for layer, names in list(calls.functional.items())[:3]]
        count = sum(map(len, calls.functional.values()))
        more = " …" if len(calls.functional) > 3 else ""
        yield Fact(
            "functional activations", "note", f"{count} are functions, not layers ({'; '.join(some)}{more})", RECORDED,
            "other libraries' hooks do not see them; here rules that need layers work in a twin or refuse",
        )  # fmt: skip
    if calls.twice:
        some = [f"{name} {count} times" for name, count in list(calls.twice.items())[:3]]
        more = " …" if len(calls.twice) > 3 else ""
        yield Fact(
            "reused layers", "note", f"{len(calls.twice)} layers run more than once ({', '.join(some)}{more})", RECORDED,
            "no map can be drawn there; other libraries' hooks mix their runs", "one layer per use, as with nn.ReLU()",
        )  # fmt: skip


def _range(model: Model, inputs: Inputs, calls: Any, normalising: dict[str, tuple[float, float]]) -> Fact | None:
    """What the first steps say of the range of images, against what is declared or, where nothing is, what they hold."""
    images = [(m, v) for m, v in zip(model.modalities, inputs, strict=True) if m.kind == "image"]
    if not images:
        return None
    modality, values = images[0]
    high = float(np.max(values)) if modality.range is None else float(modality.range[1] - modality.range[0])
    steps = [(f"multiplies by {s:.4g} before its first layer", s) for s in calls.scales]
    for layer, (mean, sd) in normalising.items():
        if sd:
            steps.append((f"standardises by mean {mean:.4g} and sd {sd:.4g} in {layer or 'the module itself'}", 1 / sd))
    name = f"first layer after {modality.name}" if len(images) == 1 else "first layer"
    for words, scale in steps:
        if (scale < SMALL and high <= 2) or (scale > LARGE and high > LARGE):
            expected = "0 to 255" if scale < SMALL else "0 to 1"
            return Fact(
                name, "note", f"the network itself {words}: it expects {expected}, and values reach {high:g}", RECORDED,
                "the network sees images that are nearly black, or nearly white",
                f"images of {expected}, and Modality.image(range=({expected.replace(' to', ',')}))",
            )  # fmt: skip
    if normalising and modality.name in dict(getattr(model, "standardise", {})):
        doubled = f"{next(iter(normalising))!r} standardises what standardise= has standardised before"
        return Fact(name, "note", doubled, RECORDED, "the network sees values standardised twice", "one of the two")
    if any(mean <= 1 < high / LARGE for mean, _ in normalising.values()):
        first, (mean, sd) = next(iter(normalising.items()))
        return Fact(
            name, "note", f"{first!r} standardises by mean {mean:.3g} and sd {sd:.3g}, and values reach {high:g}", RECORDED,
            "the network sees images that are nearly white", "images of 0 to 1, and Modality.image()",
        )  # fmt: skip
    return None


LEVEL = 0.3
"""Logits that differ less between samples than this share of what they differ by between classes: .14 on a network that was never
trained, .84 on a trained one."""
ALIKE = 0.7
"""Saliency that correlates so much with that of redrawn weights does not depend on what was learnt."""


def trained(
    model: Model, inputs: Inputs, outputs: Array, labels: npt.NDArray[np.integer[Any]] | None
) -> Iterator[Fact]:
    """Signs of whether the weights were trained: batch norms, outputs, saliency and accuracy, where they can be looked at."""
    yield from _trained_norms(hints_of(model))
    if outputs.ndim == 2:
        yield from _trained_outputs(outputs)
    yield from _trained_saliency(model, inputs)
    if labels is not None and outputs.ndim == 2:
        yield from _trained_accuracy(outputs, labels)


def _trained(untrained: bool, found: str, how: str) -> Fact:
    if not untrained:
        return Fact("weights trained", "holds", found, how)
    return Fact(
        "weights trained", "note", found, how, "maps of an untrained network show edges and no knowledge",
        "the trained weights: was a checkpoint loaded, and strictly (load_state_dict(strict=True), load_weights)?",
    )  # fmt: skip


def _trained_norms(hints: dict[str, Any]) -> Iterator[Fact]:
    """Batch norms that are as they were made."""
    if every := hints.get("norms"):
        fresh = hints["fresh norms"]
        counted = f"{fresh} of {every} batch norms have mean 0, variance 1, scale 1 and saw no batch"
        yield _trained(fresh == every, counted, "statistics and weights of the batch norms")


def _trained_outputs(values: Array) -> Iterator[Fact]:
    """How much outputs (n, classes) differ between samples, as a share of between classes; four samples at least."""
    if values.shape[1] < 3 or len(values) < 4 or not np.isfinite(values).all():
        return
    between_classes = float(values.mean(axis=0).std())
    share = float(values.std(axis=0).mean()) / max(between_classes, np.finfo(np.float64).tiny)
    compared = f"outputs differ between samples by {share:.2f} of what they differ by between classes"
    how = f"standard deviations over {len(values)} samples and {values.shape[1]} classes"
    yield _trained(share < LEVEL, compared, how)


def _trained_accuracy(values: Array, labels: npt.NDArray[np.integer[Any]]) -> Iterator[Fact]:
    """Whether the largest output is the label more often than by chance."""
    if values.shape[1] < 2 or len(labels) < 8:
        return
    right, classes = int((values.argmax(axis=1) == labels).sum()), len(np.unique(labels))
    by_chance = max(np.bincount(labels).max() / len(labels), 1 / max(classes, 2))
    p = binomtest(right, len(labels), min(by_chance, 1.0), alternative="greater").pvalue
    counted = f"{right} of {len(labels)} samples are right; the commonest class gives {by_chance:.0%} (p = {p:.2g})"
    yield _trained(p > 0.05 and right < len(labels), counted, "largest output against the labels")


def _trained_saliency(model: Model, inputs: Inputs) -> Iterator[Fact]:
    """Whether saliency survives that every weight is drawn anew (Adebayo et al. 2018)."""
    if not (isinstance(model, Differentiable) and isinstance(model, Randomisable)):
        return
    pair = two_samples(inputs)
    try:
        other = model.randomised(pair, len(model.weighted(pair)), 0)
    except CrossXAIError:
        return
    if not isinstance(other, Differentiable):
        return
    one, another = (np.concatenate([np.abs(g).ravel() for g in m.vjp(pair, np.ones_like)[1]]) for m in (model, other))
    if np.ptp(one) and np.ptp(another):
        correlation = float(spearmanr(one, another).statistic)
        correlated = f"saliency correlates by {correlation:.2f} with that of a copy whose weights are all drawn anew"
        how = "Spearman correlation of absolute gradients of the sum of outputs, two samples"
        yield _trained(correlation > ALIKE, correlated, how)
