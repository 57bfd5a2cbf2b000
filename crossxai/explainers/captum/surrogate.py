"""Captum's LIME and Shapley values over groups of entries, on any model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import Unsupported
from crossxai.explainers.captum import attribute_one, captum, forward, joined, masks, narrow, room, seed_of
from crossxai.explainers.device_copies import group_scorer
from crossxai.explainers.families import GroupMethod
from crossxai.explainers.groups import Labels, constrained_values, count, lime_samples, shap_coalitions, spread
from crossxai.explainers.method import NATIVE, Maps, Passes, explainer, profiles
from crossxai.explainers.native import seeded
from crossxai.model import Array
from crossxai.process import require
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class _Sampled(GroupMethod, needs="scores", joint=True):
    """What methods share that draw which groups are shown.

    Parameters
    ----------
    samples : int, default 25
        How often groups are drawn to be shown or hidden.
    """

    samples: int = 25
    seed: int = 0

    @property
    def asks_groups(self) -> bool:
        """Whether Captum looks at nothing but which groups a copy shows."""
        return True

    def _attributed(
        self, method: Any, question: Question, row: int, samples: int, **options: Any
    ) -> tuple[list[Array], tuple[Labels, ...]]:
        """What Captum gives for one sample, and the numbers of its groups, (1, …) per free modality."""
        labels = tuple(numbers[None] for numbers in self.labels(question, row)[0])
        groups = [own[0] for own in labels]
        there = group_scorer(question, row, groups, self.baselines(question)) if self.asks_groups else None
        if there is not None:
            with seeded(seed_of(question, row, self.seed)):
                values = _of_groups(method, there, count(labels), samples, room(question, 1), **options)
            return [values[0][own] for own in labels] if options.get("return_input_shape", True) else [values], labels
        maps = attribute_one(
            method,
            question,
            row,
            self.seed,
            gradients=False,
            baselines=self.baselines(question),
            feature_mask=masks(labels),
            n_samples=samples,
            perturbations_per_eval=room(question, 1),
            **options,
        )
        return maps, labels


def _of_groups(
    method: Any, scores: Callable[[Labels], Array], number: int, samples: int, fewest: int, **options: Any
) -> Array:
    """What Captum gives (1, groups) for inputs that are the groups themselves, 1 where one is shown: it does the same with them
    as with pixels, and copies are made elsewhere. fewest: the fewest coalitions that it asks for at once."""
    import torch

    method.forward_func = lambda shown: torch.from_numpy(scores(shown.numpy().astype(np.int64)))
    most = min(max(samples, number), 2**24 // number)  # all at once, as far as there is room
    values = method.attribute(
        torch.ones(1, number),
        baselines=0.0,
        feature_mask=torch.arange(number)[None],
        n_samples=samples,
        perturbations_per_eval=max(fewest, most),
        **options,
    )
    return np.asarray(values.numpy())


@dataclass(frozen=True, kw_only=True)
class _Fitted(_Sampled, fits=True, least={"samples": 2}):
    """What methods share that fit a model to groups shown or hidden."""

    def _fit(self, method: Any, question: Question, row: int, samples: int) -> npt.NDArray[np.float32]:
        """Captum's weights of one sample's groups."""
        (weights,), _ = self._attributed(method, question, row, samples, return_input_shape=False)
        return weights.reshape(-1).astype(np.float32)

    def _weights(self, question: Question, row: int) -> npt.NDArray[np.float32]:
        raise NotImplementedError

    def explain(self, question: Question) -> Maps:
        require("sklearn.linear_model", "lime", self.name)
        per_sample = [
            spread(self._weights(question, row), self.labels(question, row)[0]) for row in range(len(question))
        ]
        return tuple(np.stack(column) for column in zip(*per_sample, strict=True)), {}


@explainer("captum.lime", "local linear model over groups of entries", "Ribeiro et al. 2016")
@profiles(
    native="cosine distance of the inputs, width 1, Lasso(0.01)",
    canonical="cosine distance of the binary samples, width 0.25, Ridge(1), hidden groups filled with one value",
)
class Lime(_Fitted, family="surrogate"):
    """Weights of a linear model over groups that are shown or hidden (Ribeiro et al. 2016), painted on the groups.

    The native Lasso is often zero everywhere. The kernel is exp(-d² / 2w²), and the first of the canonical samples shows
    everything. Captum fits in float32.
    """

    @property
    def asks_groups(self) -> bool:
        return self.profile == "canonical"  # natively it compares pixels

    def _weights(self, question: Question, row: int) -> npt.NDArray[np.float32]:
        library = captum(self.name)
        if self.profile == "native":
            return self._fit(library.Lime(forward(question, there=False)), question, row, self.samples)
        from captum._utils.models.linear_model import SkLearnRidge

        _, count = self.labels(question, row)
        shown = lime_samples(question.rng(row, self.seed), self.samples, count)
        method = library.Lime(
            forward(question, there=False),
            interpretable_model=SkLearnRidge(alpha=1),
            similarity_func=_binary_cosine,
            perturb_func=_given(shown),
        )
        return self._fit(method, question, row, self.samples)


def _binary_cosine(_original: Any, _perturbed: Any, shown: Any, **_kwargs: Any) -> float:
    """exp(-d² / 2w²), d the cosine distance of a binary sample from the one that shows everything, 1 for an empty one."""
    distance = 1 - float(shown.double().mean()) ** 0.5
    return math.exp(-(distance**2) / (2 * 0.25**2))


def _given(shown: npt.NDArray[np.int64]) -> Any:
    """Captum's `perturb_func`, which yields these rows."""
    import torch

    def rows(_original: Any, **_kwargs: Any) -> Iterator[Any]:
        for row in shown:
            yield torch.from_numpy(row[None])

    return rows


@explainer("captum.kernel_shap", "Shapley values of groups by regression", "Lundberg & Lee 2017")
@profiles(native="everything and nothing weigh 1e6", canonical="everything and nothing are constraints")
class KernelShap(_Fitted, family="Shapley", least={"samples": 3}):
    """Shapley values by a weighted regression over coalitions of groups (Lundberg & Lee 2017, theorem 2).

    Coalitions are drawn from the Shapley kernel; natively Captum's `samples` begin with everything and nothing. Canonically
    these come in addition, and the values add up to score(input) - score(baseline). Fewer coalitions than groups leave values
    open: the smallest ones that add up are given. Scores reach the fit in float32.
    """

    def passes(self, question: Question) -> Passes:
        return self.samples + (2 if self.profile == "canonical" else 0), 0

    def _weights(self, question: Question, row: int) -> npt.NDArray[np.float32]:
        method = captum(self.name).KernelShap(forward(question, there=False))
        _, count = self.labels(question, row)
        if count < 2:
            raise Unsupported(
                f"{self.name} compares groups of entries, and there is only {count}: choose smaller groups"
            )
        if self.profile == "native":
            return self._fit(method, question, row, self.samples)
        drawn = shap_coalitions(question.rng(row, self.seed), self.samples, count)
        ends = np.ones((1, count), np.int64), np.zeros((1, count), np.int64)
        method.perturb_func = _given(np.concatenate([*ends, drawn]))
        method.interpretable_model = _Constrained()
        return self._fit(method, question, row, self.samples + 2)


class _Constrained:
    """Least squares whose first row (everything) and second (nothing) hold exactly: in place of Captum's linear model."""

    def fit(self, data: Any, **_kwargs: Any) -> None:
        (shown, scores, _weights), *_ = ([column.double().numpy() for column in batch] for batch in data)
        self.values = constrained_values(shown, scores)

    def representation(self) -> Any:
        import torch

        return torch.from_numpy(self.values)[None]


@explainer("captum.shapley_value_sampling", "Shapley values of groups by random orders", "Castro et al. 2009")
class ShapleyValueSampling(_Sampled, family="Shapley", profiles=NATIVE, least={"samples": 1}):
    """Shapley values of groups by adding them in random orders (Castro et al. 2009; Štrumbelj & Kononenko 2010).

    Captum's 25 orders, drawn for each sample by its name and `seed`; groups are shown on top of `baseline`. The values add up
    to score(input) - score(baseline) exactly. Captum computes in float32.

    Parameters
    ----------
    samples : int, default 25
        Random orders.
    """

    def passes(self, question: Question) -> Passes:
        return 1 + self.samples * self.group_count(question), 0

    def explain(self, question: Question) -> Maps:
        method = captum(self.name).ShapleyValueSampling(forward(question, there=False))
        rows = range(len(question))
        return tuple(joined([narrow(*self._attributed(method, question, row, self.samples)) for row in rows])), {}
