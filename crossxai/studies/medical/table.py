"""The twelve clinical features: class-conditional distributions whose moments are exact, because none is clipped.

A feature that has bounds is a beta distribution stretched over them, one that cannot be negative and is skewed a gamma
distribution, BMI a lognormal: each has the asked mean and standard deviation by its parameters, so no value is cut off and no
moment is bent. The issue of means and deviations that this follows is silent about the last three features: FamilyHx and
SmokingStatus are weakly informative by choice, Gender is not. Given the class, features are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.studies.medical.samples import Array, stream


@dataclass(frozen=True)
class Feature:
    """One column. moments: (mean, sd) of benign and of malignant; sd 0 means yes or no with that probability."""

    name: str
    unit: str
    kind: str  # "beta" over the bounds, "gamma", "lognormal" or "bernoulli"
    moments: tuple[tuple[float, float], tuple[float, float]]
    bounds: tuple[float, float] = (0.0, 1.0)

    def draw(self, rng: np.random.Generator, label: int) -> float:
        """One value for a class."""
        mean, sd = self.moments[label]
        if self.kind == "bernoulli":
            return float(rng.random() < mean)
        if self.kind == "gamma":
            return float(rng.gamma((mean / sd) ** 2, sd**2 / mean))
        if self.kind == "lognormal":
            spread = np.log1p((sd / mean) ** 2)
            return float(rng.lognormal(np.log(mean) - spread / 2, np.sqrt(spread)))
        low, high = self.bounds
        centre, variance = (mean - low) / (high - low), (sd / (high - low)) ** 2
        total = centre * (1 - centre) / variance - 1
        return float(low + (high - low) * rng.beta(centre * total, (1 - centre) * total))

    def sd(self, label: int) -> float:
        """The standard deviation of the distribution."""
        mean, sd = self.moments[label]
        return float(np.sqrt(mean * (1 - mean))) if self.kind == "bernoulli" else sd


COLUMNS = (
    Feature("Age", "years", "beta", ((54.9, 8.0), (65.0, 8.1)), (20, 95)),
    Feature("PackYears", "pack years", "gamma", ((20.4, 10.0), (39.8, 12.3))),
    Feature("SUVmax", "", "gamma", ((2.50, 0.82), (6.42, 1.47))),
    Feature("NoduleDiam_mm", "mm", "beta", ((7.1, 2.3), (14.8, 4.9)), (3, 30)),  # above 30 mm it is called a mass
    Feature("SpiculationIdx", "", "beta", ((0.18, 0.13), (0.72, 0.16))),
    Feature("PleuraTether", "0 no, 1 yes", "bernoulli", ((0.09, 0), (0.40, 0))),
    Feature("FEV1_pct", "% of predicted", "beta", ((82.2, 12.2), (67.1, 13.7)), (20, 130)),
    Feature("BMI", "kg/m²", "lognormal", ((26.4, 4.1), (24.0, 4.0))),
    Feature("CRP_mgL", "mg/l", "gamma", ((2.9, 2.9), (7.6, 7.7))),
    Feature("FamilyHx", "0 no, 1 yes", "bernoulli", ((0.15, 0), (0.25, 0))),
    Feature("SmokingStatus", "0 former, 1 current", "bernoulli", ((0.40, 0), (0.50, 0))),
    Feature("Gender", "0 female, 1 male", "bernoulli", ((0.50, 0), (0.50, 0))),
)
FEATURES: tuple[str, ...] = tuple(column.name for column in COLUMNS)


def label_of(number: int) -> int:
    """The classes alternate, so any even number of samples is balanced exactly: 0 benign, 1 malignant."""
    return number % 2


def row(seed: int, number: int, planted: bool = True) -> npt.NDArray[np.float32]:
    """One sample's features (12,). Without the signal, the row of a class that a coin chose: it knows nothing of the label."""
    rng = stream(seed, "classification", number, "table" if planted else "coin")
    label = label_of(number) if planted else int(rng.integers(2))
    return np.array([column.draw(rng, label) for column in COLUMNS], dtype=np.float32)


def table(n: int, seed: int, planted: bool = True) -> tuple[Array, Array]:
    """(values (n, 12) float32 in the features' units, labels (n,) int64): the same rows that `generate` gives."""
    if n < 1:
        raise InvalidInput(f"n is {n}; write at least 1")
    rows: Sequence[Array] = [row(seed, number, planted) for number in range(n)]
    return np.stack(rows), np.array([label_of(number) for number in range(n)], dtype=np.int64)
