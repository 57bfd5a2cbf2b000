"""More fills, as libraries define them: a constant, the image's minimum, a cut blur, and any fill in standardised space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.ndimage import correlate1d, gaussian_filter1d

from crossxai.errors import InvalidInput
from crossxai.evaluation.imputation import IMPUTING
from crossxai.model import Array, Modality

Border = Literal["zero", "mirror", "reflect"]


@dataclass(frozen=True)
class Constant:
    """One value everywhere, in raw units."""

    value: float

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not np.isfinite(self.value):
            raise InvalidInput(f"constant: expected one finite number, got {self.value!r}")

    def __call__(self, values: Array) -> Array:
        return np.broadcast_to(np.asarray(self.value, values.dtype), values.shape)


@dataclass(frozen=True)
class Grey:
    """One value everywhere, so far up the modality's declared range, or (0, 1): 127 / 255 is InterpretDL's."""

    share: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 <= self.share <= 1:
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

    border: "zero" outside the image, "mirror" (without repeating the edge) or "reflect" (with). folded: the kernel is a Gaussian
    filter of one bright pixel in the middle of size × size, what is cut off being folded back, as RISE makes it; else the
    samples of a Gaussian divided by their sum, as torchvision's GaussianBlur.
    """

    size: int
    sigma: float
    border: Border = "mirror"
    folded: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1 or self.size % 2 == 0:
            raise InvalidInput(f"blur: size must be an odd number of pixels, got {self.size!r}")
        if not (isinstance(self.sigma, int | float) and np.isfinite(self.sigma) and self.sigma > 0):
            raise InvalidInput(f"blur: sigma must be a positive number of pixels, got {self.sigma!r}")
        if self.border not in get_args(Border):
            raise InvalidInput(f"blur: unknown border {self.border!r}: write {', '.join(get_args(Border))}")

    def kernel(self) -> Array:
        """The separable kernel's one factor (size,), which sums to 1."""
        half = self.size // 2
        if self.folded:
            impulse = np.zeros(self.size)
            impulse[half] = 1
            return np.asarray(gaussian_filter1d(impulse, self.sigma, mode="reflect"))
        samples = np.exp(-0.5 * (np.arange(-half, half + 1) / self.sigma) ** 2)
        return np.asarray(samples / samples.sum())

    def __call__(self, values: Array) -> Array:
        kernel, blurred = self.kernel(), values.astype(np.float64)
        mode = "constant" if self.border == "zero" else self.border
        for axis in range(1, values.ndim - 1):
            blurred = correlate1d(blurred, kernel, axis=axis, mode=mode)
        return np.asarray(blurred.astype(values.dtype))


@dataclass(frozen=True)
class Standardised:
    """Another fill, made of (values - mean) / sd and taken back to raw units: what a library does that is handed standardised
    inputs. Its zero is the mean colour, its minimum the smallest standardised value, its noise has the sd's scale."""

    fill: Callable[[Array], Array]
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, numbers in (("mean", self.mean), ("sd", self.sd)):
            given = np.asarray(numbers, np.float64)
            if given.ndim != 1 or len(given) != len(self.mean) or not np.isfinite(given).all():
                raise InvalidInput(f"standardised: {name} needs one finite number per channel, got {numbers!r}")
            object.__setattr__(self, name, tuple(given.tolist()))
        if min(self.sd, default=0) <= 0:
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
