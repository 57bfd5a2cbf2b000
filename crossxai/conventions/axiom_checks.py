"""Measuring axioms: how far an answer is from what its method promises."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from crossxai.attribution import Explainer
from crossxai.conventions.agreement import ROUNDING, distances
from crossxai.conventions.answers import explainer_of
from crossxai.conventions.axioms import PROMISES, AxiomCheck, AxiomName
from crossxai.conventions.convention import CANONICAL, Option, Setting, convention
from crossxai.conventions.floor import SUSPECT
from crossxai.conventions.models import GRADIENTS
from crossxai.conventions.recipes import Renderer
from crossxai.conventions.result import Entry
from crossxai.conventions.situation import baseline_of, reframed
from crossxai.errors import CrossXAIError, Unsupported
from crossxai.evaluation.metrics.sanity import Shifted
from crossxai.explainers.groups import groups
from crossxai.model import Array, Foldable
from crossxai.question import Question
from crossxai.target import Target

SAMPLES = 2
"""How many samples are explained again."""
WEIGHTS = 2.0, -1.0
"""Of the two scores whose sum is explained; of either sign, since absolute values and a ReLU are linear where all is positive."""
Measure = Callable[[Explainer, Question, Array, Setting], Array]
"""Errors (n,) of an explainer whose maps and setting are known; raises `Unsupported` where it cannot be asked."""


def with_checks(
    entries: Sequence[Entry], render: Renderer, model: str, params: Mapping[str, Any] | None
) -> tuple[Entry, ...]:
    """The answers, those on one model with the axioms that their method promises.

    render: of the method on that model. params: to ask the explainers again with; None measures only what costs no explanation.
    """
    checks, checked = _Checks(render, params), []
    for entry in entries:
        if entry.model == model and entry.maps is not None:
            others = [e for e in entries if e.model != model and e.explainer == entry.explainer]
            entry = replace(entry, axioms=tuple(checks.of(entry, [e for e in others if e.profile == entry.profile])))
        checked.append(entry)
    return tuple(checked)


class _Checks:
    """The checks of answers to one question; what they share is computed once."""

    def __init__(self, render: Renderer, params: Mapping[str, Any] | None) -> None:
        self.render, self.params, self.promised = render, params, PROMISES[render.method]
        self.few = render.question[:SAMPLES]
        self._changes: dict[tuple[Option, ...], Array] = {}

    def of(self, entry: Entry, others: Sequence[Entry]) -> Iterator[AxiomCheck]:
        """The checks of one answer; others: the same library's on models that are the same function."""
        assert entry.maps is not None
        if "completeness" in self.promised:
            yield self._complete(entry)
        if "implementation invariance" in self.promised:
            for other in others:
                if other.maps is not None:
                    yield _judged("implementation invariance", distances(entry.maps, other.maps), entry, other.model)
        if self.params is None or entry.outside:
            return
        explainer = explainer_of(entry.explainer, entry.profile, self.params)
        measures: dict[AxiomName, Measure] = {**MEASURES, "implementation invariance": self._beside_folded}
        for axiom in self.promised:
            if axiom in measures:
                beside = "the same with its batch norms folded" if axiom == "implementation invariance" else ""
                try:
                    errors = measures[axiom](explainer, self.few, entry.maps[:SAMPLES], entry.found)
                    yield _judged(axiom, errors, entry, beside)
                except CrossXAIError as error:
                    yield AxiomCheck(axiom, beside=beside, refusal=str(error))

    def _beside_folded(self, explainer: Explainer, _question: Question, maps: Array, _setting: Setting) -> Array:
        """How far the maps of the network with its batch norms folded are from those of the network itself."""
        return distances(maps, explainer(self._folded).values[0])

    @cached_property
    def _folded(self) -> Question:
        model = self.few.model
        if not isinstance(model, Foldable):
            raise Unsupported(f"model {model.name!r} cannot be written as another network")
        return replace(self.few, model=model.folded(self.few.inputs), check="off")

    def _complete(self, entry: Entry) -> AxiomCheck:
        """Completeness, held against what the definition itself misses with the same steps and baseline.

        Maps from outside have the baseline that they are said to have.
        """
        assert entry.maps is not None
        setting = entry.setting if entry.outside else entry.found
        definition = {
            name: option
            if name in ("segmentation", "baseline_units") or not isinstance(option, str)
            else CANONICAL[self.render.method][name]
            for name, option in setting.items()
        }
        try:
            check = AxiomCheck("completeness", self._missing(entry.maps, definition), ROUNDING)
            if check.kept:
                return check
            own = AxiomCheck("completeness", self._missing(self.render(definition), definition))
            check = replace(check, tolerance=max(ROUNDING, 2 * own.error))
            return check if check.kept else replace(check, cause=self._cause(entry, definition, check.tolerance))
        except CrossXAIError as error:
            return AxiomCheck("completeness", refusal=str(error))

    def _missing(self, maps: Array, setting: Setting) -> Array:
        """What each map misses (n,), as a share of the mean change of the score."""
        key = tuple(setting[name] for name in ("baseline", "baseline_units"))
        if key not in self._changes:
            self._changes[key] = change(self.render.question, baseline_of(self.render.question, setting))
        expected = self._changes[key]
        whole = float(np.abs(expected).mean())
        if whole == 0:
            raise Unsupported("the score of every input is that of the baseline")
        if not np.isfinite(whole) or not np.isfinite(maps).all():
            raise Unsupported("a map or a score is NaN or infinite")
        return np.asarray(np.abs(total(self.render.question, maps, setting) - expected) / whole)

    def _cause(self, entry: Entry, definition: Setting, tolerance: float) -> str:
        """The one convention without which the answer would be complete, in words; "" if there is none."""
        found = entry.found
        switched = {name: {**found, name: option} for name, option in definition.items() if found[name] != option}
        for name in sorted(switched, key=lambda name: not self.render.known(switched[name])):
            with contextlib.suppress(Unsupported):
                if self._missing(self.render(switched[name]), definition).mean() <= tolerance:
                    return f"{convention(name).about} ({convention(name).words(found[name])})"
        return ""


def _judged(axiom: AxiomName, errors: Array, entry: Entry, beside: str = "") -> AxiomCheck:
    """The check with its tolerance: the answer's noise floor, measured only for an error that rounding may make."""
    if not np.isfinite(errors).all():
        return AxiomCheck(axiom, beside=beside, refusal="a map is NaN or infinite")
    again = axiom in ("implementation invariance", "shift invariance")  # where rounding may flip a ReLU
    tolerance, error = GRADIENTS if again else ROUNDING, float(errors.max())
    if tolerance < error <= SUSPECT and entry.floor is not None:
        tolerance = max(tolerance, entry.floor.tolerance_for(error))
    return AxiomCheck(axiom, errors, tolerance, beside)


def change(question: Question, baseline: Array) -> Array:
    """The score of each input less that of the baseline, one value per channel (channels,); two forward passes."""
    start = tuple(np.broadcast_to(baseline.astype(v.dtype), v.shape) for v in question.values)
    return np.asarray(question.score().astype(np.float64) - question.score(start, np.arange(len(question))))


def total(question: Question, maps: Array, setting: Setting) -> Array:
    """What each map adds up to (n,); of a method that hides groups, each group once."""
    if "segmentation" not in setting:
        return np.asarray(maps.reshape(len(maps), -1).sum(axis=1, dtype=np.float64))
    sums = np.zeros(len(maps))
    for row, values in enumerate(maps):
        (labels,) = groups(question, row, str(setting["segmentation"]), int(setting["patch"]), int(setting["seed"]))
        of_group = values if labels.shape[-1] > 1 else values.sum(axis=-1, keepdims=True)
        if labels.shape != of_group.shape:
            raise Unsupported(f"a map of shape {values.shape} has no values of groups of shape {labels.shape}")
        numbers = labels.ravel()
        sums[row] = (np.bincount(numbers, of_group.ravel()) / np.bincount(numbers)).sum()
    return sums


def _axis(question: Question) -> int:
    """The axis that is halved and mirrored: the last one of space, or a table's columns."""
    return -2 if question.one[0].spatial else -1


def dummy(explainer: Explainer, question: Question, _maps: Array, setting: Setting) -> Array:
    """The share of each map's norm on the half that the model does not read."""
    modality, values = question.one
    axis = _axis(question)
    size = values.shape[axis]
    unread = np.arange(size) < size // 2
    across = unread[:, None] if axis == -2 else unread
    fill = 0.0 if modality.range is None else modality.range[0]
    model = reframed(
        question.model,
        modality.name,
        lambda v: np.where(across, v.dtype.type(fill), v),
        lambda gradient: np.where(across, gradient.dtype.type(0), gradient),
    )
    sure = size // 2
    if "stride" in setting:  # a window over an unread entry may reach what is read
        sure -= int(setting["patch"]) - 1
    if sure < 1:
        raise Unsupported("a window is wider than half of the image, so that every one reaches what the model reads")
    maps = explainer(replace(question, model=model, check="off")).values[0]
    return _shares(_norms(np.take(maps, np.arange(sure), axis=axis)), _norms(maps))


def linearity(explainer: Explainer, question: Question, maps: Array, _setting: Setting) -> Array:
    """How far the map of a weighted sum of two scores is from that sum of their maps, over the norms of what is added, or that of
    the sum's map if it is larger."""
    target = question.target
    if not isinstance(target, Target):
        raise Unsupported(f"a {type(target).__name__} is no sum of scores")
    own, (a, b) = target.weights.astype(np.float64), WEIGHTS

    def explained(weights: Array) -> Array:
        return np.asarray(explainer(replace(question, target=replace(target, weights=weights))).values[0], np.float64)

    if target.out[-1] == 1:
        parts, whole = [-a * maps], explained(-a * own)
    else:
        other = np.roll(own, 1, axis=-1)
        parts, whole = [a * maps, b * explained(other)], explained(a * own + b * other)
    size = np.maximum(np.sum([_norms(part) for part in parts], axis=0), _norms(whole))
    return _shares(_norms(whole - np.sum(parts, axis=0)), size)


def symmetry(explainer: Explainer, question: Question, _maps: Array, setting: Setting) -> Array:
    """How far the map of a mirror-symmetric input, on a model that cannot tell left from right, is from its mirror image."""
    modality, values = question.one
    axis = _axis(question)
    if "stride" in setting:
        size, patch, stride = values.shape[axis], int(setting["patch"]), int(setting["stride"])
        if (size - patch) % stride:
            raise Unsupported(
                f"windows do not lie symmetrically: {size} - {patch} pixels are no multiple of stride {stride}"
            )

    def mean(v: Array) -> Array:
        return np.asarray((v + np.flip(v, axis)) * v.dtype.type(0.5))

    model = reframed(question.model, modality.name, mean, mean)
    inputs = tuple(
        mean(v) if m.name == modality.name else v
        for m, v in zip(question.model.modalities, question.inputs, strict=True)
    )
    maps = explainer(replace(question, model=model, inputs=inputs, check="off")).values[0]
    return distances(maps, np.flip(maps, axis))


def shift(explainer: Explainer, question: Question, maps: Array, _setting: Setting) -> Array:
    """How far the map moves with a constant that is added to the inputs and taken off by the model; a baseline moves along."""
    modality, values = question.one
    low, high = modality.range or (float(values.min()), float(values.max()))
    by = high - low or 1.0
    model = Shifted(question.model, modality.name, by)
    moved = replace(question, model=model, inputs=model.moved(question.inputs), check="off")
    return distances(maps, _moved(explainer, by)(moved).values[0])


def _moved(explainer: Explainer, by: float) -> Explainer:
    """The explainer with its baseline moved along; what a library fills groups with by itself follows their mean or the range."""
    for name in {"baseline", "fill"} & {f.name for f in fields(explainer)}:  # type: ignore[arg-type]
        own = getattr(explainer, name)
        if own is not None or explainer.profile == "canonical":
            return replace(explainer, **{name: (own or 0.0) + by})  # type: ignore[type-var]
    return explainer


def _shares(parts: Array, wholes: Array) -> Array:
    """parts / wholes, 0 where there is nothing."""
    return np.asarray(np.where(wholes > 0, parts / np.where(wholes > 0, wholes, 1), 0))


def _norms(maps: Array) -> Array:
    return np.asarray(np.linalg.norm(maps.reshape(len(maps), -1).astype(np.float64), axis=1))


MEASURES: dict[AxiomName, Measure] = {
    "dummy": dummy,
    "linearity": linearity,
    "symmetry": symmetry,
    "shift invariance": shift,
}
"""What costs explanations, beside another network's."""
