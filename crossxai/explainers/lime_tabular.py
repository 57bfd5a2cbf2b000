"""LIME for tables on any model: the lime library's own sampling and regression, scores from the question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from crossxai.attribution import Profile
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.explainers.method import Answer, Method, Passes
from crossxai.model import Array
from crossxai.process import require
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class Tabular(Method):
    """Weights of a linear model over columns that are drawn anew (Ribeiro et al. 2016), for the score as a number.

    lime needs training data and has no default for it. background: the path of a .npy file (rows, columns); lime then cuts
    each column into the background's quartiles, and a weight says what it means to be in the sample's quartile. Without one,
    columns are drawn from a normal distribution around the sample, and a weight is the effect of one `sd`: so many units of
    the column, or this share of the modality's range where it declares one. Either way an answer depends on nothing but the
    sample, its name and the seed. features: the most columns that get a weight, chosen as lime chooses them; the others get
    0. The extra `r2` (n,) is the weighted fit of the linear model.
    """

    name: ClassVar = "lime.tabular"
    library: ClassVar = "lime"
    summary: ClassVar = "local linear model over a table's columns"
    needs: ClassVar = "scores"
    fits: ClassVar = True
    family: ClassVar = "surrogate"
    reference: ClassVar = "Ribeiro et al. 2016"
    kinds: ClassVar = ("table",)
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)
    conventions: ClassVar = {"native": "columns drawn anew, Euclidean distance, width 0.75 · √columns, Ridge(1)"}

    samples: int = 5000
    features: int = 10
    background: str = ""
    sd: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2 or self.features < 1:
            given = f"samples {self.samples}, features {self.features}"
            raise InvalidInput(f"{self.name}: samples ≥ 2 and features ≥ 1 are needed, got {given}")
        if self.sd <= 0:
            raise InvalidInput(f"{self.name}: sd must be positive, got {self.sd}")
        if self.background and not self.background.endswith(".npy"):
            raise InvalidInput(f"{self.name}: background is the path of a .npy file, got {self.background!r}")

    def passes(self, question: Question) -> Passes:
        return self.samples, 0

    def explain(self, question: Question) -> Answer:
        library = require("lime.lime_tabular", "lime", self.name)
        modality, values = question.one
        explainer = self._explainer(library, self._background(values), modality.features) if self.background else None
        low, high = modality.range or (0.0, 1.0)
        maps, fit = np.zeros(values.shape, np.float32), np.zeros(len(values))
        for row, own in enumerate(values.astype(np.float64)):
            around = np.stack([own - self.sd * (high - low), own + self.sd * (high - low)])  # whose sd is just that
            one = explainer or self._explainer(library, around, modality.features)
            state = np.random.RandomState(question.rng(row, self.seed).integers(2**32))  # lime takes no Generator
            one.random_state = one.base.random_state = state
            if one.discretizer is not None:
                one.discretizer.random_state = state

            def scores(copies: Array, row: int = row) -> Array:
                return question.score((copies.astype(values.dtype),), np.full(len(copies), row))

            answer = one.explain_instance(own, scores, num_features=self.features, num_samples=self.samples)
            for column, weight in answer.local_exp[1]:  # 1 is lime's name for "more"; under 0 the signs are turned
                maps[row, column] = weight
            fit[row] = answer.score
        return (maps,), {"r2": fit}

    def _explainer(self, library: Any, training: Array, names: tuple[str, ...]) -> Any:
        return library.LimeTabularExplainer(
            training,
            mode="regression",
            feature_names=list(names),
            discretize_continuous=bool(self.background),
            sample_around_instance=not self.background,
        )

    def _background(self, values: Array) -> Array:
        if not Path(self.background).is_file():
            raise InvalidFile(f"{self.name}: there is no background file {self.background}")
        try:
            with open(self.background, "rb") as file:
                table = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InvalidFile(f"{self.name}: {self.background} is no .npy file of plain numbers: {error}") from error
        if table.ndim != 2 or table.shape[1] != values.shape[1] or not np.issubdtype(table.dtype, np.number):
            raise InvalidInput(
                f"{self.name}: {self.background} holds {table.dtype} {table.shape}, numbers of shape (rows, "
                f"{values.shape[1]}) are needed"
            )
        if not len(table) or not np.isfinite(table).all():
            raise InvalidInput(f"{self.name}: {self.background} holds no rows, or NaN or infinity")
        return np.asarray(table, np.float64)
