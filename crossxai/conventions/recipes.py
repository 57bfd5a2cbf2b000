"""Each method as one definition with its conventions as settings: what a library would give if it chose them.

A recipe makes the raw array of a method; `render` adds the conventions of the finished map. That a recipe with a library's
settings is what the library gives is held by tests against the libraries themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from crossxai.conventions import group_recipes, mask_recipes
from crossxai.conventions.convention import CONVENTIONS, Option, Setting
from crossxai.conventions.finishing import finish
from crossxai.conventions.situation import situated
from crossxai.explainers import get
from crossxai.explainers.families import noise
from crossxai.model import Array
from crossxai.question import Question

Recipe = Callable[[Question, Setting], Array]
"""(question with one free image, setting) -> raw map (n, y, x, channels), or (n, h, w, 1) on a layer's grid."""


class Renderer:
    """Maps of one method on one question by setting; what several settings share is computed once.

    Parameters
    ----------
    question : Question
        With one free image.
    method : str
        A key of `CANONICAL`.
    layer : str
        Of activation maps; "" takes the last one with space.
    """

    def __init__(self, question: Question, method: str, layer: str = "", seed: int = 0) -> None:
        self.question, self.method, self.layer, self.seed = question, method, layer, seed
        self._raw: dict[tuple[tuple[str, Option], ...], Array] = {}

    def raw(self, setting: Setting) -> Array:
        """The method's own array, before the conventions of finished maps."""
        key = _before_finishing(setting)
        if key not in self._raw:
            extra: dict[str, Option] = {"layer": self.layer, "seed": self.seed}
            self._raw[key] = RECIPES[self.method](situated(self.question, setting), {**setting, **extra})
        return self._raw[key]

    def known(self, setting: Setting) -> bool:
        """Whether the map of a setting needs no pass through the model."""
        return _before_finishing(setting) in self._raw

    def __call__(self, setting: Setting) -> Array:
        """The finished map (n, y, x, 1 or channels) of a setting."""
        return finish(self.raw(setting), setting, self.question.values[0].shape[1:3])


def _before_finishing(setting: Setting) -> tuple[tuple[str, Option], ...]:
    """What decides the raw array."""
    return tuple(sorted((n, o) for n, o in setting.items() if n not in CONVENTIONS or CONVENTIONS[n].stage != "map"))


def _gradient(question: Question, setting: Setting) -> Array:
    _, (gradient,) = question.score_and_grad()
    return gradient * question.values[0] if setting["multiplied"] == "yes" else gradient


def _integrated(question: Question, setting: Setting) -> Array:
    (values,) = question.values
    baseline = values.dtype.type(setting["baseline"])
    points, weights = quadrature(str(setting["quadrature"]), int(setting["steps"]))
    total = np.zeros(values.shape, np.float64)
    at_once = max(1, 4 * question.batch_size // len(values))
    for start in range(0, len(points), at_once):
        some = points[start : start + at_once].astype(values.dtype)
        path = baseline + some.reshape(-1, *[1] * values.ndim) * (values - baseline)
        _, (gradients,) = question.score_and_grad(
            (path.reshape(-1, *values.shape[1:]),), np.tile(np.arange(len(values)), len(some))
        )
        gradients = gradients.reshape(path.shape)
        total += np.tensordot(weights[start : start + at_once], gradients.astype(np.float64), axes=1)
    return np.asarray((total * (values - baseline) if setting["multiplied"] == "yes" else total).astype(values.dtype))


def quadrature(rule: str, n: int) -> tuple[Array, Array]:
    """(points in [0, 1], weights) of a rule with n points."""
    if rule == "gausslegendre":
        points, weights = np.polynomial.legendre.leggauss(n)
        return (points + 1) / 2, weights / 2
    starts = {"riemann_left": 0.0, "riemann_right": 1 / n, "riemann_middle": 0.5 / n}
    if rule in starts:
        return starts[rule] + np.arange(n) / n, np.full(n, 1 / n)
    weights = np.full(n, 1 / (n - 1) if rule == "trapezoid" else 1 / n)
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, n), weights


def _smoothed(question: Question, setting: Setting) -> Array:
    modality, values = question.one
    samples, sd = int(setting["samples"]), float(setting["sd"])
    width = 1.0 if modality.range is None else modality.range[1] - modality.range[0]
    maps = []
    for row, image in enumerate(values):
        if setting["draws"] == "torch":
            draws = _torch_draws(question, row, samples, sd, int(setting["seed"]))
        else:
            draws = noise(question, row, samples, int(setting["seed"]))[0] * values.dtype.type(sd * width)
        _, (gradients,) = question.score_and_grad((image + draws,), np.full(samples, row))
        each = {"signed": gradients, "absolute": np.abs(gradients), "squared": gradients**2}[str(setting["noisy"])]
        maps.append(each.mean(axis=0))
    smooth = np.stack(maps)
    return smooth * values if setting["multiplied"] == "yes" else smooth


def _torch_draws(question: Question, row: int, samples: int, sd: float, seed: int) -> Array:
    """What Captum's NoiseTunnel draws for one sample under our seed."""
    tunnel = get("captum.smooth_grad", samples=samples, sd=sd, seed=seed)
    return np.asarray(tunnel._noise(question[[row]])[0][0].numpy())  # type: ignore[attr-defined]


def _cam(question: Question, setting: Setting) -> Array:
    layer = question.cam_layer(str(setting["layer"]))
    _, activation, gradient = question.layer_score_and_grad(layer)
    weights = gradient.mean(axis=(1, 2))
    return np.asarray(np.einsum("nyxc,nc->nyx", activation, weights)[..., None])


def _plus_plus(question: Question, setting: Setting) -> Array:
    """Chattopadhyay et al. 2018, eq. 19."""
    layer = question.cam_layer(str(setting["layer"]))
    _, activation, gradient = question.layer_score_and_grad(layer)
    over_space: Callable[..., Array] = np.sum if setting["space"] == "sum" else np.mean
    total = over_space(activation, axis=(1, 2), keepdims=True)
    denominator = 2 * gradient**2 + total * gradient**3 + gradient.dtype.type(float(setting["epsilon"]))
    safe = np.where(denominator == 0, 1, denominator)
    alphas = np.where(denominator == 0, 0, gradient**2 / safe)
    weights = over_space(alphas * np.maximum(gradient, 0), axis=(1, 2))
    return np.asarray(np.einsum("nyxc,nc->nyx", activation, weights)[..., None])


def _guided(question: Question, setting: Setting) -> Array:
    """Springenberg et al. 2014, by Captum's hooks on a twin of the network."""
    return np.asarray(get("captum.guided_backprop")(question).values[0])


RECIPES: dict[str, Recipe] = {
    "saliency": _gradient,
    "gradient_x_input": _gradient,
    "integrated_gradients": _integrated,
    "smooth_grad": _smoothed,
    "gradcam": _cam,
    "gradcam_plus_plus": _plus_plus,
    "occlusion": mask_recipes.occlusion,
    "rise": mask_recipes.rise,
    "guided_backprop": _guided,
    "lime": group_recipes.lime,
    "kernel_shap": group_recipes.kernel_shap,
}
"""Method -> its recipe."""
