"""Fills: what deletion and insertion put in place of a removed pixel or column, in raw input space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Annotated, Any, Literal, cast, get_args

import numpy as np
from scipy.ndimage import correlate1d, gaussian_filter, gaussian_filter1d

from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.evaluation.curves.imputation import IMPUTING, Inpaint, NoisyLinear
from crossxai.evaluation.parameters import choice, finite, positive
from crossxai.model import Array, Modality
from crossxai.question import Question

Border = Literal["zero", "mirror", "reflect"]

Fill = Callable[[Array], Array]
"""Values (n, *axes) → replacements of the same shape. Any function will do; it must treat each sample on its own."""

FillLike = Annotated[str | Mapping[str, Any] | Fill, lambda fill, _: resolve(fill)]
"""A name ("zero", "grey", "mean", "minimum", "blur", "noisy_linear", "inpaint"), a name with its value ({"blur": 3},
{"constant": 0.5}, {"grey": 0.5}, {"dataset_mean": [0.7, 0.5, 0.7]}, {"blur": {"size": 11, "sigma": 5}}, {"noisy_linear": 0.01}),
or a `Fill`. One more takes a fill and the numbers that make a library's inputs of raw ones: {"standardised": {"fill": "zero",
"mean": […], "sd": […]}}."""


def _per_channel(values: object, what: str, number: int | None = None) -> tuple[float, ...]:
    given = np.asarray(values, np.float64)
    if given.ndim != 1 or not given.size or len(given) != (number or len(given)) or not np.isfinite(given).all():
        raise InvalidInput(f"{what}: expected one finite number per channel or column, got {values!r}")
    return tuple(given.tolist())


@dataclass(frozen=True)
class Zero:
    """Zero in raw space: black for an image in [0, 1], which is not the zero of a standardised one."""

    def __call__(self, values: Array) -> Array:
        return np.broadcast_to(np.zeros((), values.dtype), values.shape)


@dataclass(frozen=True)
class Mean:
    """Each image's own mean per channel; images only."""

    def __call__(self, values: Array) -> Array:
        space = tuple(range(1, values.ndim - 1))
        return np.broadcast_to(values.mean(axis=space, keepdims=True), values.shape)


@dataclass(frozen=True)
class DatasetMean:
    """One value per channel or column, measured by you on the training set, in raw units."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _per_channel(self.values, "dataset_mean"))

    def __call__(self, values: Array) -> Array:
        if len(self.values) != values.shape[-1]:
            raise InvalidInput(
                f"dataset_mean: {len(self.values)} values given, the inputs have {values.shape[-1]} channels or columns"
            )
        return np.broadcast_to(np.asarray(self.values, values.dtype), values.shape)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of each channel, sigma in pixels, cut at 4 sigma, borders mirrored; images only."""

    sigma: float = 5.0

    def __post_init__(self) -> None:
        positive(self.sigma, "blur: sigma")
        object.__setattr__(self, "sigma", float(self.sigma))

    def matrix(self, length: int) -> Array:
        """What the blur does to values along one axis of that length."""
        return np.asarray(gaussian_filter1d(np.eye(length), self.sigma, axis=0, mode="reflect"))

    def __call__(self, values: Array) -> Array:
        sigmas = (0.0, *[self.sigma] * (values.ndim - 2), 0.0)
        return np.asarray(gaussian_filter(values, sigmas, mode="reflect"))


@dataclass(frozen=True)
class Constant:
    """One value everywhere, in raw units."""

    value: float

    def __post_init__(self) -> None:
        if not finite(self.value):
            raise InvalidInput(f"constant: expected one finite number, got {self.value!r}")

    def __call__(self, values: Array) -> Array:
        return np.broadcast_to(np.asarray(self.value, values.dtype), values.shape)


@dataclass(frozen=True)
class Grey:
    """One value everywhere, so far up the modality's declared range, or (0, 1): 127 / 255 is InterpretDL's."""

    share: float = 0.5

    def __post_init__(self) -> None:
        if not finite(self.share) or not 0 <= self.share <= 1:
            raise InvalidInput(f"grey: expected a share of the range in [0, 1], got {self.share!r}")

    def of(self, modality: Modality) -> Constant:
        """The grey of a modality."""
        low, high = modality.range or (0.0, 1.0)
        return Constant(low + self.share * (high - low))

    def __call__(self, values: Array) -> Array:
        return Constant(self.share)(values)


@dataclass(frozen=True)
class Minimum:
    """Each sample's own smallest value over all pixels and channels: Quantus' "black"."""

    def __call__(self, values: Array) -> Array:
        return np.broadcast_to(values.min(axis=tuple(range(1, values.ndim)), keepdims=True), values.shape)


@dataclass(frozen=True)
class KernelBlur:
    """Blur of each channel by a Gaussian cut to size × size pixels, sigma in pixels; images only.

    border: "zero" outside the image, "mirror" (without repeating the edge) or "reflect" (with). folded: what the cut leaves out
    is folded back into the kernel, as in RISE; else a Gaussian's samples over their sum, as in torchvision's GaussianBlur.
    """

    size: int
    sigma: float
    border: Border = "mirror"
    folded: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1 or self.size % 2 == 0:
            raise InvalidInput(f"blur: size must be an odd number of pixels, got {self.size!r}")
        positive(self.sigma, "blur: sigma")
        choice(self.border, get_args(Border), "blur: unknown border")

    def kernel(self) -> Array:
        """The separable kernel's one factor (size,), which sums to 1."""
        half = self.size // 2
        if self.folded:
            impulse = np.zeros(self.size)
            impulse[half] = 1
            return np.asarray(gaussian_filter1d(impulse, self.sigma, mode="reflect"))
        samples = np.exp(-0.5 * (np.arange(-half, half + 1) / self.sigma) ** 2)
        return np.asarray(samples / samples.sum())

    def matrix(self, length: int) -> Array:
        """What the blur does to values along one axis of that length."""
        return self._along(np.eye(length), 0)

    def _along(self, values: Array, axis: int) -> Array:
        mode = "constant" if self.border == "zero" else self.border
        return np.asarray(correlate1d(values, self.kernel(), axis=axis, mode=mode))

    def __call__(self, values: Array) -> Array:
        blurred: Array = values.astype(np.float64)
        for axis in range(1, values.ndim - 1):
            blurred = self._along(blurred, axis)
        return np.asarray(blurred.astype(values.dtype))


@dataclass(frozen=True)
class Standardised:
    """Another fill, made of (values - mean) / sd and taken back to raw units: what a library does that is handed standardised
    inputs. Its zero is the mean colour, its minimum the smallest standardised value, its noise has the sd's scale."""

    fill: Callable[[Array], Array]
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", _per_channel(self.mean, "standardised: mean"))
        object.__setattr__(self, "sd", _per_channel(self.sd, "standardised: sd", len(self.mean)))
        if min(self.sd) <= 0:
            raise InvalidInput(f"standardised: sd must be positive, got {self.sd!r}")

    def __call__(self, values: Array) -> Array:
        mean, sd = self._constants(values)
        return np.asarray(self.fill((values - mean) / sd) * sd + mean)

    def impute(self, image: Array, hidden: Any, rng: np.random.Generator) -> Array:
        """See `imputation.NoisyLinear.impute`; only for a fill that has it."""
        mean, sd = self._constants(image)
        assert isinstance(self.fill, IMPUTING)
        return np.asarray(self.fill.impute((image - mean) / sd, hidden, rng) * sd + mean)

    def _constants(self, values: Array) -> tuple[Array, Array]:
        if len(self.mean) != values.shape[-1]:
            raise InvalidInput(
                f"standardised: mean and sd of {len(self.mean)} channels given, the inputs have {values.shape[-1]}"
            )
        return np.asarray(self.mean, values.dtype), np.asarray(self.sd, values.dtype)


def imputes(fill: object) -> bool:
    """Whether what a fill puts in a pixel depends on which others are hidden, so that each mask has a fill of its own."""
    return isinstance(fill.fill if isinstance(fill, Standardised) else fill, IMPUTING)


_NAMED: dict[str, type[Any]] = {
    "zero": Zero,
    "mean": Mean,
    "minimum": Minimum,
    "inpaint": Inpaint,
    "blur": Blur,
    "dataset_mean": DatasetMean,
    "constant": Constant,
    "grey": Grey,
    "noisy_linear": NoisyLinear,
    "standardised": Standardised,
}
"""Fills by name; the first field holds the value of those that have one."""
_OURS = (*_NAMED.values(), KernelBlur)


def resolve(fill: FillLike) -> Fill:
    """The function behind a fill given by name, by name and value, or as itself; raises `UnknownName`."""
    if callable(fill):
        return fill
    if not isinstance(fill, str | Mapping):
        raise InvalidInput(f"a fill is a name or a function of values (n, *axes), got {type(fill).__name__}")
    if isinstance(fill, Mapping) and len(fill) != 1:
        raise InvalidInput(f"a fill is one name with one value, such as {{'blur': 3}}; got {dict(fill)!r}")
    name, value = (fill, None) if isinstance(fill, str) else next(iter(fill.items()))
    if name not in _NAMED:
        raise UnknownName("fill", str(name), _NAMED)
    if isinstance(fill, str):
        if any(f.default is MISSING for f in fields(_NAMED[name])):
            raise InvalidInput(f"fill {fill!r} needs its values: write {{{fill!r}: …}}")
        return cast("Fill", _NAMED[name]())
    if not fields(_NAMED[name]):
        raise InvalidInput(f"fill {name!r} takes no value: write fill={name!r}")
    if name == "blur" and isinstance(value, Mapping):
        unknown = set(value) - {"size", "sigma", "border", "folded"}
        if unknown or not {"size", "sigma"} <= set(value):
            raise InvalidInput(
                f"blur: write a sigma, or {{'size': 11, 'sigma': 5}} with border and folded; got {dict(value)!r}"
            )
        return KernelBlur(**value)
    if name == "standardised":
        if not isinstance(value, Mapping) or set(value) != {"fill", "mean", "sd"}:
            raise InvalidInput(f"standardised: write {{'fill': 'zero', 'mean': […], 'sd': […]}}, got {value!r}")
        return Standardised(resolve(value["fill"]), tuple(value["mean"]), tuple(value["sd"]))
    return cast("Fill", _NAMED[name](value))


def plain(fill: FillLike) -> Fill:
    """The fill; raises `Unsupported` for one that reads the mask."""
    resolved = resolve(fill)
    if imputes(resolved):
        raise Unsupported(
            f"fill {describe(resolved)!r} makes hidden pixels of those that are left, which deletion, insertion and "
            "ROAD do: write a fill that is the same for every mask, such as 'zero', 'mean' or 'blur'"
        )
    return resolved


def by_modality(given: object, metric: str) -> dict[str, Fill]:
    """The fills of single modalities, by name; raises `InvalidInput`."""
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{metric}: fills is one fill per modality, {{'image': 'blur'}}; got {given!r}")
    return {name: resolve(fill) for name, fill in given.items()}


def of_modalities(question: Question, fill: FillLike, fills: Mapping[str, FillLike]) -> dict[Modality, Fill]:
    """What replaces the units of each free modality, `fill` unless it has its own; raises `UnknownName`."""
    for name in fills:
        if name not in question.free:
            raise UnknownName("modality to fill", name, question.free)
    return {m: resolve(fills.get(m.name, fill)) for m in question.modalities}


def describe(fill: Fill) -> str | dict[str, Any]:
    """Plain data that `resolve` turns back into the fill; for a function of yours, its name."""
    if isinstance(fill, KernelBlur):
        return {"blur": asdict(fill)}
    if isinstance(fill, Standardised):
        return {"standardised": {"fill": describe(fill.fill), "mean": list(fill.mean), "sd": list(fill.sd)}}
    for name, kind in _NAMED.items():
        if isinstance(fill, kind):
            if not fields(kind):
                return name
            value = getattr(fill, fields(kind)[0].name)
            return {name: list(value) if isinstance(value, tuple) else value}
    return str(getattr(fill, "__qualname__", type(fill).__qualname__))


def filled(fill: FillLike, modality: Modality, values: Array, rows: slice = slice(None)) -> Array:
    """Values (n, *axes) of `rows` with everything removed: same shape and dtype, possibly a read-only view.

    Raises `Unsupported` for one that needs space on a table, `InvalidInput` for a wrong shape, range or numbers not finite.
    """
    fill, values = resolve(fill), values[rows]
    if isinstance(fill, Grey):
        fill = fill.of(modality)
    inner = fill.fill if isinstance(fill, Standardised) else fill
    if isinstance(inner, (Mean, Blur, KernelBlur, *IMPUTING)) and not modality.spatial:
        raise Unsupported(
            f"fill {describe(fill)!r} needs an image, modality {modality.name!r} is a table: "
            "write fill='zero' or fill=DatasetMean(values)"
        )
    if isinstance(fill, DatasetMean) and modality.range is not None:
        low, high = modality.range
        if min(fill.values) < low or max(fill.values) > high:
            raise InvalidInput(
                f"dataset_mean {fill.values} leaves the range {modality.range} of modality {modality.name!r}: "
                "give the means in raw units"
            )
    # A function of the user's gets a copy, so that one working in place cannot change the question.
    own = isinstance(fill, _OURS)
    result = np.asarray(fill(values if own else values.copy()))
    if result.shape != values.shape:
        raise InvalidInput(f"fill {describe(fill)!r} turned shape {values.shape} into {result.shape}: keep the shape")
    if not np.issubdtype(result.dtype, np.number) or not np.isfinite(result).all():
        raise InvalidInput(f"fill {describe(fill)!r} gave values that are not finite numbers")
    return result.astype(values.dtype, copy=False)
