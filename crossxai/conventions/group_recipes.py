"""Recipes of methods that show and hide groups of pixels: LIME and Kernel SHAP with every library's choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.conventions.convention import Setting
from crossxai.explainers import get
from crossxai.explainers.groups import constrained_values, groups, lime_samples, shap_coalitions
from crossxai.model import Array
from crossxai.question import Question

Numbers = npt.NDArray[np.float64]
Shown = npt.NDArray[np.integer[Any]]
HEAVY = 1e6
"""What Captum weighs everything and nothing by."""


def lime(question: Question, setting: Setting) -> Array:
    """Ribeiro et al. 2016, eq. 1 and 2."""
    return _per_sample(question, setting, _lime_weights)


def kernel_shap(question: Question, setting: Setting) -> Array:
    """Lundberg & Lee 2017, theorem 2."""
    return _per_sample(question, setting, _shapley_values)


def _per_sample(
    question: Question, setting: Setting, weigh: Callable[[Question, int, Setting, npt.NDArray[np.int64]], Numbers]
) -> Array:
    """Each group's weight painted on its pixels, sample by sample."""
    (values,) = question.values
    maps = np.zeros((*values.shape[:3], 1))
    for row in range(len(values)):
        (labels,) = groups(question, row, str(setting["segmentation"]), int(setting["patch"]), int(setting["seed"]))
        maps[row, ..., 0] = weigh(question, row, setting, labels[..., 0])[labels[..., 0]]
    return maps.astype(values.dtype)


def _lime_weights(question: Question, row: int, setting: Setting, labels: npt.NDArray[np.int64]) -> Numbers:
    from sklearn.linear_model import Lasso, Ridge

    shown = _drawn(question, row, setting, labels, "lime")
    copies = _copies(question.values[0][row], shown, labels, setting)
    scores = question.score((copies,), np.full(len(copies), row)).astype(np.float64)
    distance = _distance(question.values[0][row], copies, shown, str(setting["distance"]))
    squared = (distance / float(setting["width"])) ** 2
    weight = np.exp(-squared / 2 if setting["kernel"] == "half" else -squared)
    model = (Lasso if setting["regressor"] == "lasso" else Ridge)(alpha=float(setting["penalty"]))
    return np.asarray(model.fit(shown, scores, sample_weight=weight).coef_, np.float64)


def _shapley_values(question: Question, row: int, setting: Setting, labels: npt.NDArray[np.int64]) -> Numbers:
    shown = _drawn(question, row, setting, labels, "kernel_shap")
    number = shown.shape[1]
    ends = np.stack([np.ones(number, np.int64), np.zeros(number, np.int64)])
    if setting["ends"] != "free" and setting["draws"] != "captum":  # Captum's begin with both
        shown = np.concatenate([ends, shown])
    copies = _copies(question.values[0][row], shown, labels, setting)
    scores = question.score((copies,), np.full(len(copies), row)).astype(np.float64)
    if setting["ends"] == "constraints":
        return np.asarray(constrained_values(shown.astype(np.float64), scores), np.float64)
    weight = np.ones(len(shown))
    if setting["ends"] == "heavy":
        weight[[0, 1]] = HEAVY
    design = np.column_stack([shown, np.ones(len(shown))])
    root = np.sqrt(weight)[:, None]
    return np.asarray(np.linalg.lstsq(root * design, root[:, 0] * scores, rcond=None)[0][:-1])


def _copies(image: Array, shown: Shown, labels: npt.NDArray[np.int64], setting: Setting) -> Array:
    """The image with the groups of each row of `shown` and the others filled (m, y, x, channels)."""
    fill = np.full(image.shape, setting["baseline"], image.dtype)
    if setting["fill"] == "segment_mean":
        for number in np.unique(labels):
            fill[labels == number] = image[labels == number].mean(axis=0)
    return np.where((shown[:, labels] == 1)[..., None], image, fill)


def _distance(image: Array, copies: Array, shown: Shown, how: str) -> Numbers:
    """How far each copy is from the image, or its binary sample from the one that shows everything (m,)."""
    flat, whole = copies.reshape(len(copies), -1).astype(np.float64), image.reshape(-1).astype(np.float64)
    if how == "euclidean":
        return np.asarray(np.linalg.norm(flat - whole, axis=1))
    if how == "binary_cosine":
        flat, whole = shown.astype(np.float64), np.ones(shown.shape[1])
    length = np.linalg.norm(flat, axis=1) * np.linalg.norm(whole)
    return np.asarray(1 - flat @ whole / np.where(length > 0, length, 1))


def _drawn(
    question: Question, row: int, setting: Setting, labels: npt.NDArray[np.int64], method: str
) -> npt.NDArray[np.int64]:
    """The binary samples (samples, groups) of one sample, by whose generator the setting says."""
    number, samples, seed = int(labels.max()) + 1, int(setting["samples"]), int(setting["seed"])
    rng = question.rng(row, seed)
    source = str(setting["draws"])
    if source == "shared":
        return lime_samples(rng, samples, number) if method == "lime" else shap_coalitions(rng, samples, number)
    return _LIBRARIES[source](question, row, setting, labels, method)


def _of_lime(
    question: Question, row: int, setting: Setting, labels: npt.NDArray[np.int64], _method: str
) -> npt.NDArray[np.int64]:
    state = np.random.RandomState(question.rng(row, int(setting["seed"])).integers(2**32))
    number, samples = int(labels.max()) + 1, int(setting["samples"])
    shown = state.randint(0, 2, samples * number).reshape(samples, number)
    shown[0] = 1
    return np.asarray(shown, np.int64)


def _of_captum(
    question: Question, row: int, setting: Setting, labels: npt.NDArray[np.int64], method: str
) -> npt.NDArray[np.int64]:
    import torch

    from crossxai.explainers.captum import captum, seed_of
    from crossxai.explainers.native import seeded

    number, samples = int(labels.max()) + 1, int(setting["samples"])
    library = captum(f"captum.{method}")
    with seeded(seed_of(question, row, int(setting["seed"]))):
        if method == "lime":
            rows = [torch.bernoulli(torch.full((1, number), 0.5)) for _ in range(samples)]
        else:
            sizes = torch.arange(1, number, dtype=torch.float32)
            chances = torch.cat([torch.zeros(1), (number - 1) / (sizes * (number - sizes))])
            selected = torch.distributions.Categorical(chances)
            drawing = library.KernelShap(lambda x: x).kernel_shap_perturb_generator(
                torch.zeros(1), num_select_distribution=selected, num_interp_features=number
            )
            rows = [next(drawing) for _ in range(samples)]
    return np.asarray(torch.cat(rows).numpy(), np.int64)


def _of_xplique(
    question: Question, row: int, setting: Setting, labels: npt.NDArray[np.int64], method: str
) -> npt.NDArray[np.int64]:
    from crossxai.process import require

    own: Any = get(f"xplique.{method}", samples=int(setting["samples"]), seed=int(setting["seed"]))
    made = own._method(require("xplique.attributions", "xplique", own.name), 1.0, ref_value=None)
    return np.asarray(own._shown(made, question, row, labels), np.int64)


_LIBRARIES: dict[str, Callable[[Question, int, Setting, npt.NDArray[np.int64], str], npt.NDArray[np.int64]]] = {
    "lime": _of_lime,
    "captum": _of_captum,
    "xplique": _of_xplique,
}
