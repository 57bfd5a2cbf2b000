"""The page of a parity: which libraries agree on a method, what parts the others, and what that looks like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.attribution import Profile
from crossxai.conventions.agreement import REGION, ROUNDING, agreement, aligned
from crossxai.conventions.axioms import PROMISES
from crossxai.conventions.convention import convention
from crossxai.conventions.disagreement import disagreement
from crossxai.conventions.libraries import USAGES
from crossxai.conventions.result import PROFILES, Entry, Pair, Parity
from crossxai.conventions.retraining import Training
from crossxai.conventions.sanity import Sanity
from crossxai.evaluation.statistics import Summary, compare, summarise
from crossxai.files.atomic import write_text
from crossxai.report.axioms import AxiomFacts, axiom_facts
from crossxai.report.html import environment
from crossxai.report.plots.parity import maps_picture, sanity_picture

LEVEL = 0.05
"""At which two areas under the deletion curve count as different."""
FEWEST = 6
"""Samples below which no paired test that flips signs reaches that level."""
METHODS = {
    "saliency": "saliency",
    "gradient_x_input": "gradient × input",
    "integrated_gradients": "integrated gradients",
    "smooth_grad": "SmoothGrad",
    "gradcam": "Grad-CAM",
    "gradcam_plus_plus": "Grad-CAM++",
    "occlusion": "occlusion",
    "rise": "RISE",
    "guided_backprop": "guided backpropagation",
    "deep_lift": "DeepLIFT",
    "lime": "LIME",
    "kernel_shap": "Kernel SHAP",
}


@dataclass(frozen=True)
class Cause:
    """One convention of a difference: what each side does, and its share of the gap."""

    convention: str
    about: str
    one: str
    other: str
    share: float


@dataclass(frozen=True)
class Difference:
    """Two libraries that part on a method, the same in all `models`.

    spearman, overlap: of the maps as they are drawn, one value per pixel; `rung` and `distance` are of all channels.
    factor: where one is a multiple of the other, else 0. krishna: the means of Krishna et al.'s six measures. seeds: how far
    two seeds lie apart, where draws are a cause, else 0.
    """

    one: str
    other: str
    profile: str
    models: tuple[str, ...]
    rung: str
    distance: float
    spearman: float
    overlap: Summary
    krishna: Mapping[str, float]
    factor: float
    explained: bool
    within_noise: bool
    outside: bool
    seeds: float
    left: float
    areas: tuple[float, float]
    p: float
    causes: tuple[Cause, ...]
    picture: str = ""


def write_parity(
    folder: Path,
    results: Sequence[Parity],
    title: str,
    expect: str | None = None,
    profile: Profile = "canonical",
    about: Sequence[Mapping[str, Any]] = (),
    samples: str = "",
    refused: Mapping[str, str] = {},
) -> Path:
    """Write parity.html and parity.json into a folder; return the path of the page.

    expect: the rung that all answers of `profile` should reach, if any. about: of each model `name`, `recognised`, what it was
    taken for, and `random`, whether nobody trained its weights. samples: where they come from, in words. refused:
    method -> why it could not be compared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    methods = [_method(result) | {"expected": _expected(result, expect, profile)} for result in results]
    facts = {
        "title": title,
        "models": _models(results),
        "methods": methods,
        "about": [*about],
        "samples": samples,
        "refused": {METHODS.get(method, method): reason for method, reason in refused.items()},
    }
    write_text(folder / "parity.json", json.dumps(_plain(facts), indent=1))
    page = folder / "parity.html"
    write_text(
        page, environment(True).get_template("parity.html.j2").render(facts, region=REGION, level=LEVEL, fewest=FEWEST)
    )
    return page


def _expected(result: Parity, rung: str | None, profile: Profile) -> dict[str, Any] | None:
    return {"rung": rung, "profile": profile, "shortfalls": result.shortfalls(rung, profile)} if rung else None


def _models(results: Sequence[Parity]) -> list[dict[str, Any]]:
    models = results[0].models if results else {}
    return [
        {
            "one": one, "other": other, "equal": parity.equal, "outputs": parity.outputs, "gradients": parity.gradients,
            "causes": [[convention(s.convention).words(s.option) for s in some] for some in parity.causes],
            "layers": parity.layers, "turned": parity.turned, "rest": parity.rest, "last": parity.last,
            "rest_agrees": parity.rest_agrees, "exact": parity.exact,
        }
        for (one, other), parity in models.items()
    ]  # fmt: skip


def _method(result: Parity) -> dict[str, Any]:
    """A method's facts; its differences are those of libraries, each the same on several models."""
    differences = [d for profile in PROFILES for d in _differences(result, profile)]
    native = [d for d in differences if d.profile == "native"]
    causes = {c.convention: c for d in native for c in sorted(d.causes, key=lambda c: c.share)}
    return {
        "causes": [c.about for c in sorted(causes.values(), key=lambda c: -c.share)],
        "matters": _matters(native),
        "samples": (samples := max((len(e.maps) for e in result.entries if e.maps is not None), default=0)),
        "few": samples < FEWEST,
        "units": "columns" if any(e.maps is not None and e.maps.ndim == 2 for e in result.entries) else "pixels",
        "layers": result.layers,
        "axioms": (facts := axiom_facts(result)),
        "unmeasured": [name for name in PROMISES[result.method] if name not in {a.name for a in facts}],
        "sanity": result.sanity,
        "sanity_picture": sanity_picture(result.sanity),
        "name": METHODS.get(result.method, result.method),
        "key": result.method,
        "compared": {profile: result.compared(profile) for profile in PROFILES},
        "worst": {profile: result.worst(profile) for profile in PROFILES},
        "largest": {
            profile: max(
                (float(p.agreement.distance.max()) for p in result.pairs if p.one.profile == profile), default=0.0
            )
            for profile in PROFILES
        },
        "matrices": {profile: _matrix(result, profile) for profile in PROFILES},
        "differences": differences,
        "deviations": [_deviation(e) for e in result.entries if _deviates(e)],
        "refusals": [(e.label, e.profile, e.refusal) for e in result.entries if e.refusal],
        "floors": [
            {"label": e.label, "profile": e.profile, "measured": dict(e.floor.measured)}
            for e in result.entries
            if e.floor is not None and any(value > 0 for value in e.floor.measured.values())
        ],
        "imprecise": [
            {"label": e.label, "profile": e.profile, "distance": e.floor.measured["precision"]}
            for e in result.entries
            if e.floor is not None and e.floor.measured.get("precision", 0.0) > ROUNDING
        ],
    }


def _matters(differences: Sequence[Difference]) -> list[str]:
    """Which of what readers look at is another one in some two libraries: "region" of the largest tenth, or "deletion"."""
    every = {
        "region": any(d.overlap.mean < REGION for d in differences),
        "deletion": any(d.p < LEVEL for d in differences),
    }
    return [name for name, other in every.items() if other]


def _matrix(result: Parity, profile: str) -> dict[str, Any]:
    """Labels, and for every two of them (rung, distance)."""
    labels = [e.label for e in result.entries if e.profile == profile and e.maps is not None]
    cells = {
        (p.one.label, p.other.label): (p.rung, float(p.agreement.distance.max()))
        for p in result.pairs
        if p.one.profile == profile
    }
    return {
        "labels": labels,
        "rows": [[cells.get((a, b)) or cells.get((b, a)) for b in labels] for a in labels],
    }


def _differences(result: Parity, profile: str) -> list[Difference]:
    """The differences of libraries, those that are the same on several models joined."""
    joined: dict[tuple[str, str], list[Pair]] = {}
    for pair in result.pairs:
        if pair.one.profile == profile and pair.finding is not None:
            joined.setdefault((pair.one.explainer, pair.other.explainer), []).append(pair)
    return [_difference(pairs) for pairs in joined.values()]


def _difference(pairs: list[Pair]) -> Difference:
    pair = max(
        pairs,
        key=lambda p: (p.finding is not None and not p.finding.explained, bool(p.steps), p.agreement.distance.max()),
    )
    finding = pair.finding
    assert finding is not None
    some = finding.closing[0] if finding.closing else ()
    causes = [
        Cause(
            s.convention,
            convention(s.convention).about,
            convention(s.convention).words(pair.one.found[s.convention]),
            convention(s.convention).words(s.option),
            finding.shares.get(str(s), 1.0),
        )
        for s in some
    ]
    causes.sort(key=lambda c: -c.share)
    models = tuple(dict.fromkeys(m for p in pairs for m in (p.one.model, p.other.model)))
    assert pair.one.maps is not None
    assert pair.other.maps is not None
    drawn = agreement(_drawn(pair.one.maps), _drawn(pair.other.maps))
    overlap = summarise(drawn.overlap)
    krishna = {name: float(np.mean(v)) for name, v in vars(disagreement(pair.one.maps, pair.other.maps)).items()}
    return Difference(
        one=pair.one.explainer,
        other=pair.other.explainer,
        profile=pair.one.profile,
        models=models,
        rung=pair.rung,
        distance=float(pair.agreement.distance.max()),
        spearman=float(np.median(drawn.spearman)),
        overlap=replace(overlap, low=max(overlap.low, 0.0), high=min(overlap.high, 1.0)),
        krishna=krishna,
        factor=_factor(pair),
        explained=finding.explained,
        within_noise=pair.within_noise,
        outside=pair.one.outside or pair.other.outside,
        seeds=pair.seeds if pair.within_noise or any(c.convention == "draws" for c in causes) else 0.0,
        left=finding.left,
        areas=_areas(pair),
        p=_p(pair),
        causes=tuple(causes),
        picture=maps_picture(pair),
    )


def _drawn(maps: np.ndarray) -> np.ndarray:
    """Maps as pictures show them, channels summed; of tables as they are."""
    return maps.sum(axis=-1, keepdims=True) if maps.ndim > 2 else maps


def _areas(pair: Pair) -> tuple[float, float]:
    """Both mean areas under the deletion curve."""
    one, other = (float("nan") if e.deletion is None else float(e.deletion.mean()) for e in (pair.one, pair.other))
    return one, other


def _p(pair: Pair) -> float:
    """Of the paired difference of both areas."""
    one, other = pair.one.deletion, pair.other.deletion
    return float("nan") if one is None or other is None else compare(one, other, higher_is_better=False).p


def _factor(pair: Pair) -> float:
    """The one factor between all samples' maps, 0 where there is none."""
    if pair.rung != "equal up to a scale":
        return 0.0
    assert pair.one.maps is not None
    assert pair.other.maps is not None
    one, other = (v.reshape(len(v), -1).astype(float) for v in aligned(pair.one.maps, pair.other.maps))
    norms = (other**2).sum(axis=1)
    factors = ((one * other).sum(axis=1) / np.where(norms > 0, norms, 1))[norms > 0]
    return float(factors.mean()) if np.ptp(factors) <= 1e-3 * np.abs(factors).max() else 0.0


def _deviates(entry: Entry) -> bool:
    return entry.finding is not None and entry.finding.closing != ((),) and not entry.within_noise


def _deviation(entry: Entry) -> dict[str, Any]:
    """What a library does other than what is documented of it."""
    assert entry.finding is not None
    return {
        "label": entry.label,
        "profile": entry.profile,
        "source": "" if entry.outside else USAGES[entry.explainer].source,
        "outside": entry.outside,
        "gap": entry.finding.gap,
        "sets": [[convention(s.convention).words(s.option) for s in some] for some in entry.finding.closing],
        "said": [
            [convention(s.convention).words(entry.setting[s.convention]) for s in some]
            for some in entry.finding.closing
        ],
    }


def _plain(value: Any) -> Any:
    """Facts as JSON takes them, without pictures."""
    if isinstance(value, Difference):
        return _plain({key: item for key, item in asdict(value).items() if key != "picture"})
    if isinstance(value, AxiomFacts):
        return _plain(asdict(value))
    if isinstance(value, Sanity | Training):
        return _plain(vars(value))
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if key != "sanity_picture"}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
