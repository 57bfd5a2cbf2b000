"""Maps against maps: explainers on one model, one method in two libraries, one explainer on two models."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from crossxai.attribution import reduce_channels
from crossxai.evaluation import statistics
from crossxai.evaluation.metrics import similarity
from crossxai.evaluation.metrics.modality import DROP
from crossxai.evaluation.statistics import Summary
from crossxai.files import Result
from crossxai.model import Array
from crossxai.report import words
from crossxai.report.run import RunRecord, is_control, ok

Key = tuple[str, str]
"""A map's model and label."""
Cube = npt.NDArray[np.float64]
"""A measure of every two maps by sample (n, E, E)."""
MEASURES = ("spearman", "cosine", "top_k")
TOP_SHARE = 0.1

# The same method under two names: a definition, not a spelling, so it cannot be worked out.
SAME = {
    "deconvnet": "deconvolution",
    "gradientinput": "inputxgradient",
    "gradientxinput": "inputxgradient",
    "image": "lime",
    "shapleyvaluesampling": "shapley",
    "squaregrad": "smoothgradsq",
}


@dataclass(frozen=True)
class Kind:
    """What a library's maps hold: signed values or none below zero, per "channel" or "pixel"."""

    signed: bool
    per: str


@dataclass(frozen=True)
class Differences:
    """How one method differs in two libraries; the first library's side first, and nothing where they are alike.

    conventions: what each says that it does. kinds: what their maps hold. parameters: name and both values of those that both
    have, and own, by side, name and value of those that only one has.
    """

    conventions: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    parameters: tuple[tuple[str, str, str], ...] = ()
    own: tuple[tuple[tuple[str, str], ...], ...] = ((), ())


@dataclass(frozen=True)
class LibraryPair:
    """One method from two libraries on one model."""

    model: str
    method: str
    first: str
    second: str
    profile: str
    spearman: Summary
    differences: Differences
    stochastic: bool

    @property
    def libraries(self) -> tuple[str, str]:
        """The two libraries' names."""
        return self.first.split(".")[0], self.second.split(".")[0]


@dataclass(frozen=True)
class ModelPair:
    """One explainer on two models. error: |a - b| / |b| per sample (Euclidean), its mean and its largest."""

    label: str
    control: bool
    first: str
    second: str
    spearman: Summary
    spearman_min: float
    error: Summary
    error_max: float
    stochastic: bool


@dataclass(frozen=True)
class Maps:
    """Every measure between every two maps. index: (model, label) → place; means: (E, E); cube: Spearman (n, E, E)."""

    index: Mapping[Key, int]
    means: Mapping[str, npt.NDArray[np.float64]]
    cube: Cube
    libraries: tuple[LibraryPair, ...]
    models: tuple[ModelPair, ...]


def compare(run: RunRecord) -> Maps:
    """Compare all maps of a run, channels summed, two maps on all the modalities that both of them explain."""
    usable = {(e.model, e.label): e for m in run.models for e in run.of(m).values() if ok(e) and e.maps and ordering(e)}
    index = {key: place for place, key in enumerate(usable)}
    cubes = {name: np.full((run.n, len(usable), len(usable)), np.nan) for name in MEASURES}
    kinds = [frozenset(e.maps) for e in usable.values()]
    for shared in {a & b for a in kinds for b in kinds} - {frozenset()}:
        members = [place for place, kind in enumerate(kinds) if shared <= kind]
        pairs = np.array([[kinds[a] & kinds[b] == shared for b in members] for a in members])
        flat = [units(run, e, shared) for e, kind in zip(usable.values(), kinds, strict=True) if shared <= kind]
        for name, cube in similarity.per_sample(flat, TOP_SHARE).items():
            if name in cubes:
                place = np.ix_(np.arange(run.n), np.array(members), np.array(members))
                cubes[name][place] = np.where(pairs, cube, cubes[name][place])
    means = {name: np.ma.masked_invalid(cube).mean(axis=0).filled(np.nan) for name, cube in cubes.items()}
    libraries = _library_pairs(run, usable, index, cubes["spearman"])
    return Maps(index, means, cubes["spearman"], libraries, _model_pairs(run, usable, index, cubes["spearman"]))


def ordering(explanation: Result) -> bool:
    """Whether maps order pixels; those of a whole modality's ablation hold one number each."""
    return DROP not in explanation.attribution.extras


def units(run: RunRecord, explanation: Result, among: Collection[str]) -> Array:
    """One number per pixel or feature (n, units): channels summed, the modalities `among` which it is side by side."""
    parts = []
    for modality in run.samples.modalities:
        if modality.name in explanation.maps and modality.name in among:
            values = explanation.maps[modality.name].astype(np.float64)
            parts.append((reduce_channels(values) if modality.spatial else values).reshape(len(values), -1))
    return np.concatenate(parts, axis=1) if parts else np.empty((run.n, 0))


def method(explainer: str) -> str:
    """What a method is called whichever library has it: `captum.layer_gradcam` and `gradcam.gradcam` are `gradcam`."""
    name = explainer.split("@")[0].split(".", 1)[-1].lower().replace("_", "").removeprefix("layer")
    return SAME.get(name, name)


def is_stochastic(explanation: Result) -> bool:
    """Whether an explainer draws random numbers: it has a seed among its parameters."""
    return any("seed" in str(key) for key in explanation.attribution.params)


def _library_pairs(
    run: RunRecord, explanations: Mapping[Key, Result], index: Mapping[Key, int], cube: Cube
) -> tuple[LibraryPair, ...]:
    pairs = []
    for (one, a), (two, b) in combinations(explanations.items(), 2):
        profile = a.attribution.profile
        names = [e.attribution.explainer for e in (a, b)]
        alike = a.model == b.model and profile == b.attribution.profile and method(names[0]) == method(names[1])
        if not alike or a.library == b.library or is_control(a) or is_control(b):
            continue
        spearman = statistics.summarise(cube[:, index[one], index[two]], groups=run.groups)
        stochastic = is_stochastic(a) or is_stochastic(b)
        name = names[0].split(".", 1)[-1]
        pairs.append(LibraryPair(a.model, name, a.label, b.label, profile, spearman, _differences(a, b), stochastic))
    return tuple(pairs)


def _differences(a: Result, b: Result) -> Differences:
    """How two libraries' maps of one method differ in convention or kind, and in parameters."""
    conventions = (a.convention, b.convention) if a.convention and b.convention and a.convention != b.convention else ()
    kinds = (_kind(a), _kind(b)) if not conventions and _kind(a) != _kind(b) else ()
    params = [{key: v for key, v in e.attribution.params.items() if key != "profile"} for e in (a, b)]
    one, two = ({key: words.value(v) for key, v in own.items()} for own in params)
    shared = tuple((key, one[key], two[key]) for key in one if key in two and params[0][key] != params[1][key])
    own = tuple(tuple((key, v) for key, v in x.items() if key not in y) for x, y in ((one, two), (two, one)))
    return Differences(conventions, kinds, shared, own)


def _kind(explanation: Result) -> Kind:
    values = next(iter(explanation.maps.values()))
    finite = values[np.isfinite(values)]
    return Kind(bool(finite.size and finite.min() < 0), "channel" if values.shape[-1] > 1 else "pixel")


def _model_pairs(
    run: RunRecord, explanations: Mapping[Key, Result], index: Mapping[Key, int], cube: Cube
) -> tuple[ModelPair, ...]:
    pairs = []
    for first, second in combinations(run.models, 2):
        for label in run.labels:
            one, two = (first, label), (second, label)
            if one not in explanations or two not in explanations:
                continue
            ranks = cube[:, index[one], index[two]]
            shared = explanations[one].maps.keys() & explanations[two].maps.keys()
            here, there = (units(run, explanations[key], shared) for key in (one, two))
            size = np.linalg.norm(there, axis=1)
            gap = np.linalg.norm(here - there, axis=1)
            usable = np.isfinite(gap) & (size > 0)
            errors = np.where(usable, gap / np.where(usable, size, 1), np.nan)
            alike = (statistics.summarise(ranks, groups=run.groups), -_largest(-ranks))
            apart = (statistics.summarise(errors, groups=run.groups), _largest(errors))
            e = explanations[one]
            pairs.append(ModelPair(label, is_control(e), first, second, *alike, *apart, is_stochastic(e)))
    return tuple(pairs)


def _largest(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else math.nan
