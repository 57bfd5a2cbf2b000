"""Each method as one definition with its conventions as settings: what a library would give if it chose them.

A recipe makes the raw array of a method; `finishing` adds the conventions of the finished map. That a recipe with a library's
settings is what the library gives is held by tests against the libraries themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from crossxai.conventions import group_recipes, mask_recipes
from crossxai.conventions.agreement import ROUNDING, distance
from crossxai.conventions.convention import CONVENTIONS, Option, Setting
from crossxai.conventions.finishing import finish
from crossxai.conventions.recipe import Recipe
from crossxai.conventions.situation import baseline_of, situated
from crossxai.errors import CrossXAIError, Unsupported
from crossxai.explainers import get
from crossxai.explainers.families import noise
from crossxai.model import Array
from crossxai.question import Question

Key = tuple[tuple[str, Option], ...]


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
    shared : str
        What settings call that layer, where models that are compared call it differently; its own name if not given.
    """

    def __init__(self, question: Question, method: str, layer: str = "", shared: str = "") -> None:
        self.question, self.method, self.layer = question, method, layer
        self.shared = shared or layer
        self.recipe = RECIPES[method]
        self._passes: dict[Key, Any] = {}
        self._raw: dict[Key, Array] = {}

    def of(self, question: Question) -> Renderer:
        """The same for another question."""
        return Renderer(question, self.method, self.layer, self.shared)

    def raw(self, setting: Setting) -> Array:
        """The method's own array, before the conventions of finished maps."""
        whole = self._whole(setting)
        key = _deciding(whole)
        if key not in self._raw:
            if setting.get("draws", "shared") not in ("shared", *self.recipe.draws):
                raise Unsupported(f"{self.method} has no draws of {setting['draws']}")
            asked, question = _deciding(whole, self.recipe.later), situated(self.question, setting)
            if asked not in self._passes:
                self._passes[asked] = self.recipe.passes(question, whole)
            self._raw[key] = self.recipe.combine(question, whole, self._passes[asked])
        return self._raw[key]

    def known(self, setting: Setting) -> bool:
        """Whether the map of a setting needs no pass through the model."""
        return _deciding(self._whole(setting), self.recipe.later) in self._passes

    def named(self, setting: Setting) -> Setting:
        """The setting with its layer by the name that the settings of all models share."""
        return {**setting, "layer": self.shared} if setting.get("layer") in ("", self.layer) else setting

    def _whole(self, setting: Setting) -> Setting:
        """The setting with the model's own name of its layer."""
        layer = str(setting.get("layer", ""))
        return {**setting, "layer": self.layer if layer in ("", self.shared) else layer}

    def layers(self, setting: Setting, grid: tuple[int, ...]) -> tuple[str, ...]:
        """The other layers that a map on a grid (y, x) may be drawn at, by one pass through the model each.

        Of several that give the same map, the shortest name, and none where the setting's own layer gives it. Layers on any grid
        where the map's is the image's own; else those on the map's grid.
        """
        enlarged = tuple(grid) == self.question.values[0].shape[1:3]
        own, different = self.raw(setting), dict[str, Array]()
        for name, size in sorted(self.question.cam_layers().items(), key=lambda item: len(item[0])):
            if enlarged or size[:2] == tuple(grid):
                with contextlib.suppress(CrossXAIError):  # where no gradient arrives, say
                    maps = self.raw({**setting, "layer": name})
                    if not any(_same(maps, other) for other in (own, *different.values())):
                        different[name] = maps
        return tuple(different)

    def __call__(self, setting: Setting) -> Array:
        """The finished map (n, y, x, 1 or channels) of a setting."""
        return finish(self.raw(setting), setting, self.question.values[0].shape[1:3])


def _same(one: Array, other: Array) -> bool:
    return one.shape == other.shape and distance(one, other) <= ROUNDING


def _deciding(setting: Setting, later: Collection[str] = ()) -> Key:
    """What decides the raw array; without what is looked at later, what decides the passes through the model."""
    return tuple(
        sorted(
            (name, option)
            for name, option in setting.items()
            if name not in later and (name not in CONVENTIONS or CONVENTIONS[name].stage != "map")
        )
    )


def _gradients(question: Question, _setting: Setting) -> Array:
    _, (gradient,) = question.score_and_grad()
    return gradient


def _multiplied(question: Question, setting: Setting, gradient: Array) -> Array:
    values = question.values[0] * _factor(question, setting)
    return np.asarray((gradient * values if setting["multiplied"] == "yes" else gradient).astype(values.dtype))


def _factor(question: Question, setting: Setting) -> Array:
    """What inputs are multiplied by before a model sees them: a gradient is multiplied by what the model has seen."""
    return np.asarray(255 if setting["input_scale"] == "255" else 1, question.values[0].dtype)


def _path_gradients(question: Question, setting: Setting) -> Array:
    """The integral of gradients (n, y, x, channels), float64, over the path's points."""
    (values,) = question.values
    baseline = baseline_of(question, setting)
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
    return total


def _integrated(question: Question, setting: Setting, total: Array) -> Array:
    (values,) = question.values
    way = (values - baseline_of(question, setting)) * _factor(question, setting)
    return np.asarray((total * way if setting["multiplied"] == "yes" else total).astype(values.dtype))


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


def _noisy_gradients(question: Question, setting: Setting) -> dict[str, Array]:
    """What is averaged under noise -> its mean (n, y, x, channels)."""
    modality, values = question.one
    samples, sd = int(setting["samples"]), float(setting["sd"])
    declared = 1.0 if modality.range is None else modality.range[1] - modality.range[0]
    means: dict[str, list[Array]] = {"signed": [], "absolute": [], "squared": []}
    for row, image in enumerate(values):
        width = np.ptp(image) if setting["spread"] == "image" else declared
        if setting["draws"] == "torch":
            if setting["spread"] == "image":
                raise Unsupported("Captum takes a standard deviation, no share of an image's range")
            draws = _torch_draws(question, row, samples, sd, int(setting["seed"]))
        else:
            draws = noise(question, row, samples, int(setting["seed"]))[0] * values.dtype.type(sd * width)
        _, (gradients,) = question.score_and_grad((image + draws,), np.full(samples, row))
        means["signed"].append(gradients.mean(axis=0))
        means["absolute"].append(np.abs(gradients).mean(axis=0))
        means["squared"].append((gradients**2).mean(axis=0))
    return {name: np.stack(maps) for name, maps in means.items()}


def _smoothed(question: Question, setting: Setting, means: dict[str, Array]) -> Array:
    return _multiplied(question, setting, means[str(setting["noisy"])])


def _torch_draws(question: Question, row: int, samples: int, sd: float, seed: int) -> Array:
    """What Captum's NoiseTunnel draws for one sample under our seed."""
    tunnel = get("captum.smooth_grad", samples=samples, sd=sd, seed=seed)
    return np.asarray(tunnel._noise(question[[row]])[0][0].numpy())  # type: ignore[attr-defined]


def _layer(question: Question, setting: Setting) -> tuple[Array, Array]:
    """A layer's (activation, gradient)."""
    _, activation, gradient = question.layer_score_and_grad(question.cam_layer(str(setting["layer"])))
    return activation, gradient


def _cam(_question: Question, _setting: Setting, layer: tuple[Array, Array]) -> Array:
    """Selvaraju et al. 2017, eq. 1 and 2."""
    activation, gradient = layer
    return np.asarray(np.einsum("nyxc,nc->nyx", activation, gradient.mean(axis=(1, 2)))[..., None])


def _plus_plus(_question: Question, setting: Setting, layer: tuple[Array, Array]) -> Array:
    """Chattopadhyay et al. 2018, eq. 19."""
    activation, gradient = layer
    over_space: Callable[..., Array] = np.sum if setting["space"] == "sum" else np.mean
    total = over_space(activation, axis=(1, 2), keepdims=True)
    denominator = 2 * gradient**2 + total * gradient**3 + gradient.dtype.type(float(setting["epsilon"]))
    safe = np.where(denominator == 0, 1, denominator)
    alphas = np.where(denominator == 0, 0, gradient**2 / safe)
    weights = over_space(alphas * np.maximum(gradient, 0), axis=(1, 2))
    return np.asarray(np.einsum("nyxc,nc->nyx", activation, weights)[..., None])


def _guided(question: Question, _setting: Setting) -> Array:
    """Springenberg et al. 2014, by Captum's hooks on a twin of the network."""
    return np.asarray(get("captum.guided_backprop")(question).values[0])


def _deep_lift(question: Question, setting: Setting) -> Array:
    """Shrikumar et al. 2017, section 3.5.1, by Captum's hooks on a twin of the network."""
    baseline = baseline_of(question, setting)
    if setting["activations"] == "gradient":
        return _gradients(question, setting) * _factor(question, setting) * (question.values[0] - baseline)
    own: Any = get("captum.deep_lift")
    (maps,), _ = own.contributions(
        question, setting["pools"] == "mended", [np.full_like(question.values[0][:1], baseline)]
    )
    return np.asarray(maps)


def _as_it_is(_question: Question, _setting: Setting, maps: Array) -> Array:
    return maps


RECIPES: dict[str, Recipe] = {
    "saliency": Recipe(_gradients, _multiplied, ("multiplied",)),
    "gradient_x_input": Recipe(_gradients, _multiplied, ("multiplied",)),
    "integrated_gradients": Recipe(_path_gradients, _integrated, ("multiplied",)),
    "smooth_grad": Recipe(_noisy_gradients, _smoothed, ("noisy", "multiplied"), ("torch",)),
    "gradcam": Recipe(_layer, _cam),
    "gradcam_plus_plus": Recipe(_layer, _plus_plus, ("space", "epsilon")),
    "occlusion": mask_recipes.OCCLUSION,
    "rise": mask_recipes.RISE,
    "guided_backprop": Recipe(_guided, _as_it_is),
    "deep_lift": Recipe(_deep_lift, _as_it_is),
    "lime": group_recipes.LIME,
    "kernel_shap": group_recipes.KERNEL_SHAP,
}
"""Method -> its recipe."""
