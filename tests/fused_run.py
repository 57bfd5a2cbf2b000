"""Hand-written runs of the three fusion tasks: two modalities, a known truth, five explainers and their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from crossxai import Modality
from crossxai.attribution import Attribution, Scores
from crossxai.files import Predictions, Result, Samples
from crossxai.model import Array
from crossxai.report.run import RunRecord

FEATURES = (
    "Age", "PackYears", "SUVmax", "NoduleDiam_mm", "SpiculationIdx", "PleuraTether", "FEV1_pct", "BMI", "CRP_mgL",
    "FamilyHx", "SmokingStatus", "Gender",
)  # fmt: skip
CT, TABLE = Modality.image("ct", ("grey",)), Modality.table(FEATURES)
PAIRS = {
    "classification": (CT, TABLE),
    "regression": (Modality.image("t1", ("grey",)), Modality.image("t2", ("grey",))),
    "segmentation": (Modality.image("flair", ("grey",)), Modality.image("t1ce", ("grey",))),
}
METRICS: dict[str, tuple[tuple[str, str], ...]] = {
    # (metric, modality): label "metric of modality", as an experiment of two modalities names them
    "classification": (
        ("deletion", "ct"), ("deletion", "table"), ("insertion", "ct"), ("joint_deletion", ""), ("aopc", "ct"),
        ("pointing", "ct"), ("mask_dice", "ct"), ("mask_iou", "ct"), ("mask_share", "ct"), ("relevance_rank", "ct"),
        ("noise_correlation", "ct"), ("noise_correlation", "table"), ("modality_share", "table"), ("modality_agreement", ""),
    ),
}  # fmt: skip
for _task, (_one, _two) in (("regression", ("t1", "t2")), ("segmentation", ("flair", "t1ce"))):
    METRICS[_task] = (
        *(
            (metric, m)
            for metric in ("deletion", "insertion", "pointing", "mask_share", "noise_correlation")
            for m in (_one, _two)
        ),
        ("modality_agreement", ""),
    )
LOWER = ("deletion", "joint_deletion")


def samples(task: str, n: int, side: int) -> Samples:
    """Noisy discs of tissue with a bright blob each, which is the truth; the table follows the class."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side] / side
    labels: Any = rng.permutation(np.arange(n) % 2)
    if task == "regression":
        labels = np.round(rng.beta(2, 5, n) * 10, 2).astype(np.float32)
    inputs: dict[str, Array] = {}
    truth, masks = {}, {}
    for number, modality in enumerate(PAIRS[task]):
        if not modality.spatial:
            spread = np.array([8, 12, 1.5, 5, 0.2, 0.5, 12, 4, 5, 0.5, 0.8, 0.5])
            middle = np.array([60, 30, 4, 11, 0.4, 0.3, 75, 25, 5, 0.3, 1, 0.5])
            rows = middle + spread * (rng.normal(size=(n, 12)) + (labels[:, None] - 0.5))
            inputs[modality.name] = rows.astype(np.float32)
            continue
        radius = rng.uniform(0.03, 0.09, n)
        centres = np.stack([rng.uniform(0.3, 0.7, n), rng.uniform(0.3, 0.7, n)], axis=1)
        if number and task == "segmentation":
            radius, centres = radius * 0.7, first  # noqa: F821 - the same lesions in both sequences
        first = centres  # noqa: F841
        far = np.hypot(y[None] - centres[:, :1, None], x[None] - centres[:, 1:, None])
        inside = far < radius[:, None, None]
        body = np.hypot((y - 0.5) / 0.9, x - 0.5) < 0.45
        noise = gaussian_filter(rng.normal(size=(n, side, side)), (0, side / 60, side / 60)) * 0.6
        image = body * (0.4 + noise) + 0.35 * inside * body
        inputs[modality.name] = np.clip(image, 0, 1)[..., None].astype(np.float32)
        truth[modality.name] = inside
    if task == "segmentation":
        masks["tumour"], labels = truth["flair"], np.zeros(n, np.int64)
    given = labels if task != "regression" else np.zeros(n, np.int64)
    made = Samples(tuple(f"{task[:3]}-xai-{i:04d}" for i in range(n)), PAIRS[task], inputs, given,
                   ("benign", "malignant") if task == "classification" else ("score",), masks, truth)  # fmt: skip
    # Filled in as the reader of a newer file does, whatever this version of `Samples` declares.
    object.__setattr__(made, "task", task)
    object.__setattr__(made, "labels", labels)
    return made


def run(
    directory: Path,
    task: str = "classification",
    n: int = 12,
    side: int = 24,
    share: Mapping[str, float] | None = None,
    structure: Mapping[str, str] | None = None,
    without: str = "",
    second: bool = False,
    scored: bool = True,
) -> RunRecord:
    """A run in memory. share: by model, how much of the score the second modality's ablation costs (else 0.6)."""
    data = samples(task, n, side)
    models = ("fused", "variant") if second else ("fused",)
    rng = np.random.default_rng(5)
    explanations, predictions = [], {}
    for model in models:
        of_second = (share or {}).get(model, 0.6)
        outputs = _outputs(data, task, rng)
        predictions[model] = Predictions(model, "torch", outputs, np.full(n, 0.9), "the output")
        good = {"fused": 0.5, "variant": 0.95}[model]
        for label, sharp in (("captum.integrated_gradients", good), ("captum.saliency", good / 2)):
            values = {m.name: _map(data, m, sharp, rng) for m in data.modalities}
            complete = {"completeness_gap": np.zeros(n)} if "integrated" in label else {}
            explanations.append(_explanation(data, model, label, values, complete))
        name = data.modalities[0].name
        explanations.append(
            _explanation(data, model, "gradcam.gradcam", {name: np.abs(_map(data, data.modalities[0], 0.3, rng))})
        )
        second_one = np.clip(of_second + rng.normal(size=n) * 0.03, 0, 1)
        drops = np.stack([1 - second_one, second_one], axis=1)
        values = {m.name: np.broadcast_to(drops[:, i].reshape(-1, *[1] * len(m.axes)), data.inputs[m.name].shape).copy()
                  for i, m in enumerate(data.modalities)}  # fmt: skip
        ablation = _explanation(data, model, "captum.modality_ablation", values, {"modality_drop": drops})
        explanations.append(replace(ablation, attribution=replace(ablation.attribution, params={"baseline": 0.0})))
        noise = {m.name: rng.random(data.inputs[m.name].shape).astype(np.float32) for m in data.modalities}
        explanations.append(_explanation(data, model, "controls.random", noise))
        if scored:
            explanations[-5:] = [
                replace(e, scores=_scores(e, data, task, i, rng)) for i, e in enumerate(explanations[-5:])
            ]
    entries = [
        {"name": m, "framework": "torch", "trained_without": without if m == "variant" or not second else ""}
        for m in models
    ]
    manifest = {"models": entries, "data": {"structure": dict(structure)} if structure else {}}
    return RunRecord(directory, manifest, data, predictions, tuple(explanations), models)


def _explanation(
    data: Samples, model: str, label: str, values: Mapping[str, Array], extras: Mapping[str, Array] | None = None
) -> Result:
    explained = tuple(m for m in data.modalities if m.name in values)
    maps = tuple(values[m.name] for m in explained)
    attribution = Attribution(maps, explained, data.ids, label, extras=dict(extras or {}), seconds=1.0)
    return Result(model, "torch", label, label.split(".")[0], attribution, degenerate=("",) * len(data.ids))


def _map(data: Samples, modality: Modality, sharp: float, rng: np.random.Generator) -> Array:
    """Positive where the truth is, smooth signed noise elsewhere."""
    values = data.inputs[modality.name]
    if not modality.spatial:
        return np.asarray(rng.normal(size=values.shape) * np.linspace(2, 0.1, values.shape[1])).astype(np.float32)
    side = values.shape[1]
    noise = gaussian_filter(rng.normal(size=values.shape[:-1]), (0, side / 40, side / 40))
    noise /= noise.std()
    found = sharp * data.truth[modality.name] * rng.uniform(1, 3, (len(values), 1, 1)) + (1 - sharp) * 0.25 * noise
    return np.asarray(found[..., None] / side).astype(np.float32)


def _outputs(data: Samples, task: str, rng: np.random.Generator) -> Array:
    n = len(data.ids)
    if task == "classification":
        logits = np.stack([1.0 - data.labels, data.labels], axis=1) * 4 + rng.normal(size=(n, 2)) * 1.5
        return np.asarray(logits, dtype=np.float32)
    if task == "regression":
        return np.asarray(data.labels[:, None] + rng.normal(size=(n, 1)) * 0.5, dtype=np.float32)
    tumour = gaussian_filter(data.truth["flair"].astype(float), (0, 2, 2))
    return np.asarray((tumour - 0.4)[..., None] * 5, dtype=np.float32)


def _scores(explanation: Result, data: Samples, task: str, rank: int, rng: np.random.Generator) -> dict[str, Scores]:
    """Scores that follow the explainer's place; those of what it has no map of are refused, with the reason."""
    found = {}
    n = len(data.ids)
    for metric, modality in METRICS[task]:
        label = f"{metric} of {modality}" if modality else metric
        if modality and modality not in explanation.maps:
            continue
        lacking = [m.name for m in data.modalities if m.name not in explanation.maps]
        params: dict[str, Any] = {"modality": modality} if modality else {}
        if lacking and (not modality or metric == "modality_share"):
            reason = f"{metric} compares both; {explanation.label} has no map of {lacking[0]}"
            found[label] = Scores(metric, np.full(n, np.nan), metric not in LOWER, params={"refused": reason})
            continue
        middle = (0.2 + 0.12 * rank) if metric in LOWER else (0.9 - 0.15 * rank)
        middle += 0.2 * (explanation.model == "variant") * (metric in ("pointing", "mask_share"))
        if metric == "noise_correlation":
            middle = 0.98 - 0.08 * rank
        value = np.clip(middle + 0.06 * rng.normal(size=n) * (0.2 if metric == "noise_correlation" else 1), 0, 1)
        extras: dict[str, Array] = {}
        if metric.startswith("mask_") and metric != "mask_share":
            extras = {"best_threshold": rng.uniform(0.02, 0.1, n)}
            params |= {"by": "share", "take": "best"}
        found[label] = Scores(metric, value, metric not in LOWER, extras=extras, params=params)
    return found
