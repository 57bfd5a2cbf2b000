"""Recipes of methods that show and hide groups of pixels: LIME and Kernel SHAP with every library's choices."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.conventions.convention import Setting
from crossxai.conventions.recipe import Recipe
from crossxai.conventions.situation import baseline_of
from crossxai.explainers import get
from crossxai.explainers.groups import constrained_values, groups, lime_samples, shap_coalitions
from crossxai.model import Array
from crossxai.question import Question

Numbers = npt.NDArray[np.float64]
Shown = npt.NDArray[np.integer[Any]]
HEAVY = 1e6
"""What Captum weighs everything and nothing by."""


@dataclass(frozen=True)
class Scored:
    """One sample's groups.

    labels (y, x). shown: which groups each copy shows (copies, groups). scores: of the copies (copies,). distances: by what is
    measured, how far each copy is from the image (copies,).
    """

    labels: npt.NDArray[np.int64]
    shown: Shown
    scores: Numbers
    distances: dict[str, Numbers]


def _scored(question: Question, setting: Setting, method: str) -> list[Scored]:
    """Every sample's groups and scores."""
    every = []
    low, high = question.one[0].range or (0.0, 1.0)
    for row in range(len(question)):
        (labels,) = groups(question, row, str(setting["segmentation"]), int(setting["patch"]), int(setting["seed"]))
        plane = labels[..., 0]
        shown = _drawn(question, row, setting, plane, method)
        if method == "kernel_shap" and setting["draws"] != "captum":  # whose begin with everything and nothing
            number = shown.shape[1]
            shown = np.concatenate([np.ones((1, number), np.int64), np.zeros((1, number), np.int64), shown])
        image = question.values[0][row]
        copies = _copies(image, shown, plane, str(setting["fill"]), baseline_of(question, setting))
        scores = question.score((copies,), np.full(len(copies), row)).astype(np.float64)
        every.append(Scored(plane, shown, scores, _distances(image, copies, shown, high - low)))
    return every


def _painted(question: Question, each: Iterable[tuple[Scored, Numbers]]) -> Array:
    """Each group's weight on its pixels (n, y, x, 1)."""
    return np.stack([weights[scored.labels][..., None] for scored, weights in each]).astype(question.values[0].dtype)


def _lime(question: Question, setting: Setting, every: list[Scored]) -> Array:
    return _painted(question, ((s, _lime_weights(setting, s)) for s in every))


def _lime_weights(setting: Setting, scored: Scored) -> Numbers:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso, Ridge

    squared = (scored.distances[str(setting["distance"])] / float(setting["width"])) ** 2
    weight = np.exp(-squared / 2 if setting["kernel"] == "half" else -squared)
    if not weight.sum() > np.finfo(np.float32).tiny:  # the kernel is too narrow: the penalty alone is left
        return np.zeros(scored.shown.shape[1])
    model = (Lasso if setting["regressor"] == "lasso" else Ridge)(alpha=float(setting["penalty"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of kernels that a search tries and no library has
        return np.asarray(model.fit(scored.shown, scored.scores, sample_weight=weight).coef_, np.float64)


LIME = Recipe(
    lambda question, setting: _scored(question, setting, "lime"),
    _lime,
    ("distance", "kernel", "width", "regressor", "penalty"),
    ("captum", "lime", "xplique"),
)
"""Ribeiro et al. 2016, eq. 1 and 2."""


def _kernel_shap(question: Question, setting: Setting, every: list[Scored]) -> Array:
    return _painted(question, ((s, _shapley_values(setting, s)) for s in every))


def _shapley_values(setting: Setting, scored: Scored) -> Numbers:
    if setting["ends"] == "constraints":
        return np.asarray(constrained_values(scored.shown.astype(np.float64), scored.scores), np.float64)
    shown, scores = scored.shown, scored.scores
    if setting["ends"] == "free" and setting["draws"] != "captum":
        shown, scores = shown[2:], scores[2:]
    weight = np.ones(len(shown), np.float32)
    if setting["ends"] == "heavy":
        weight[:2] = HEAVY
        # in float32, as Captum solves it: weights so far apart cost it the fourth digit
        return _solved(shown.astype(np.float32), scores.astype(np.float32), weight)
    return _solved(shown.astype(np.float64), scores, weight)


def _solved(shown: Array, scores: Array, weight: Array) -> Numbers:
    from sklearn.linear_model import LinearRegression

    return np.asarray(LinearRegression().fit(shown, scores, sample_weight=weight).coef_, np.float64)


KERNEL_SHAP = Recipe(
    lambda question, setting: _scored(question, setting, "kernel_shap"), _kernel_shap, ("ends",), ("captum", "xplique")
)
"""Lundberg & Lee 2017, theorem 2."""


def _copies(image: Array, shown: Shown, labels: npt.NDArray[np.int64], how: str, baseline: Array) -> Array:
    """The image with the groups of each row of `shown` and the others filled (m, y, x, channels)."""
    fill = np.full_like(image, baseline)
    if how == "segment_mean":
        for number in np.unique(labels):
            fill[labels == number] = image[labels == number].mean(axis=0)
    return np.where((shown[:, labels] == 1)[..., None], image, fill)


def _distances(image: Array, copies: Array, shown: Shown, width: float) -> dict[str, Numbers]:
    """How far copies are from the image, and their binary samples from the one that shows everything.

    width: of the declared range.
    """
    flat, whole = copies.reshape(len(copies), -1).astype(np.float64), image.reshape(-1).astype(np.float64)
    return {
        "binary_cosine": _cosine(shown.astype(np.float64), np.ones(shown.shape[1])),
        "input_cosine": _cosine(flat, whole),
        "euclidean": np.linalg.norm(flat - whole, axis=1) / width,
    }


def _cosine(rows: Numbers, one: Numbers) -> Numbers:
    length = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    return np.asarray(1 - rows @ one / np.where(length > 0, length, 1))


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
