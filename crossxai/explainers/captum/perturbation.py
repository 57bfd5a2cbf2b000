"""Captum's ablations on any model: windows, groups of entries or whole modalities replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.explainers.captum import attribute, captum, forward, masks, narrow, room
from crossxai.explainers.families import GroupMethod, WindowMethod
from crossxai.explainers.groups import Labels
from crossxai.explainers.method import NATIVE, Maps, Method, Passes, explainer, profiles
from crossxai.model import Array, Inputs
from crossxai.question import Question, Rows


@explainer("captum.occlusion", "score drop under a sliding window", "Zeiler & Fergus 2014")
@profiles(
    native="overlapping windows averaged, a clipped window at the border",
    canonical="overlapping windows averaged, a clipped window at the border",
)
class Occlusion(WindowMethod, needs="scores", family="perturbation", joint=True):
    """Drop of the score when a sliding window is replaced by `baseline` (Zeiler & Fergus 2014), all channels at once.

    Captum has no default window; ours is 16 × 16 pixels at stride 8 (one column at a time for tables). Overlapping windows
    are averaged and the border is covered, which is also the canonical definition. Captum computes in float32.
    """

    def explain(self, question: Question) -> Maps:
        self.check_space(question)
        windows, strides = [], []
        for modality, values in zip(question.modalities, question.values, strict=True):
            space = values.shape[1:-1]
            windows.append((*(self.patch for _ in space), values.shape[-1] if modality.spatial else 1))
            strides.append((*(self.stride for _ in space), 1))
        # Of several inputs, Captum 0.9 lays a mask of zeros on the CPU beside those on the device.
        scores = forward(question, there=len(question.free) == 1)
        maps = attribute(
            captum(self.name).Occlusion(scores),
            question,
            gradients=False,
            sliding_window_shapes=tuple(windows),
            strides=tuple(strides),
            baselines=tuple(self.baseline for _ in windows),
            perturbations_per_eval=room(question, len(question)),
        )
        # A window spans all channels, so every channel of Captum's map holds the same number: keep one.
        by_modality = zip(question.modalities, maps, strict=True)
        return tuple(v[..., :1] if m.spatial else v for m, v in by_modality), {}


def _ablated(method: Any, question: Question, rows: Rows, labels: tuple[Labels, ...], **options: Any) -> Inputs:
    """Maps of samples with equally many groups, by Captum's FeatureAblation or FeaturePermutation."""
    maps = attribute(
        method,
        question,
        rows,
        gradients=False,
        feature_mask=masks(labels),
        perturbations_per_eval=room(question, len(rows)),
        **options,
    )
    return narrow(maps, labels)


def _in_place(parts: list[tuple[Rows, Inputs]]) -> Inputs:
    """Maps of sets of samples, put in the order of the samples."""
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return tuple(np.concatenate(column)[order] for column in zip(*(maps for _, maps in parts), strict=True))


@explainer("captum.feature_ablation", "score drop when a group of entries is replaced", "Kokhlikyan et al. 2020")
@profiles(native="each group's drop painted on its entries", canonical="each group's drop painted on its entries")
class FeatureAblation(GroupMethod, needs="scores", family="perturbation", joint=True):
    """Drop of the score when one group of entries at a time is replaced by `baseline`; groups are counted through all
    modalities at once.

    Captum's default takes every number alone (segmentation "scalars"), one pass per number; ours is a grid of 16 × 16 squares
    and single columns.
    """

    def passes(self, question: Question) -> Passes:
        return 1 + self.group_count(question), 0

    def explain(self, question: Question) -> Maps:
        method, baselines = captum(self.name).FeatureAblation(forward(question)), self.baselines(question)
        alike = self.alike(question)
        return _in_place(
            [(rows, _ablated(method, question, rows, labels, baselines=baselines)) for rows, labels in alike]
        ), {}


@explainer("captum.modality_ablation", "score drop when a whole modality is replaced", "Kokhlikyan et al. 2020")
class ModalityAblation(Method, needs="scores", family="perturbation", profiles=NATIVE, joint=True):
    """Drop of the score when one whole modality at a time is replaced by `baseline`.

    Captum's FeatureAblation with one group per modality: which modality the model uses, from 1 + modalities passes. The map
    of a modality holds one number everywhere; the extra `modality_drop` (n, modalities) holds the same numbers once.

    Parameters
    ----------
    baselines : mapping or None, default None
        Other fills of single modalities, by name: a number, or one per channel or column, such as the training set's means; a
        table of zeros (age 0, weight 0) is far from anything that a model has seen.
    """

    baseline: float = 0.0
    baselines: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {} if self.baselines is None else self.baselines
        if not isinstance(given, Mapping) or not all(_numbers(fill) for fill in given.values()):
            raise InvalidInput(
                f"{self.name}: baselines is a number, or one per channel or column, for each modality, such as "
                f"{{'table': [54.9, 20.4]}}; got {self.baselines!r}"
            )

    def passes(self, question: Question) -> Passes:
        return 1 + len(question.modalities), 0

    def explain(self, question: Question) -> Maps:
        whole = [
            np.full((len(question), *v.shape[1:-1], 1 if m.spatial else v.shape[-1]), number, np.int64)
            for number, (m, v) in enumerate(zip(question.modalities, question.values, strict=True))
        ]
        method, rows = captum(self.name).FeatureAblation(forward(question)), np.arange(len(question))
        maps = _ablated(method, question, rows, tuple(whole), baselines=self._fills(question))
        return maps, {"modality_drop": np.stack([v.reshape(len(v), -1)[:, 0] for v in maps], axis=1)}

    def _fills(self, question: Question) -> tuple[Any, ...]:
        """One fill per free modality, as Captum takes them: a number, or a tensor of one sample."""
        import torch

        given, fills = dict(self.baselines or {}), list[Any]()
        known = [m.name for m in question.model.modalities]
        for name in given:
            if name not in known:
                raise UnknownName("modality to replace", name, known)
        for modality, values in zip(question.modalities, question.values, strict=True):
            fill = np.asarray(given.get(modality.name, self.baseline), values.dtype)
            if fill.ndim and len(fill) != len(modality.features):
                raise InvalidInput(
                    f"{self.name}: {len(fill)} baselines for {modality.name!r}, which has {len(modality.features)} "
                    f"{modality.axes[-1]}s: write one number, or one per {modality.axes[-1]}"
                )
            fills.append(
                torch.from_numpy(np.broadcast_to(fill, (1, *values.shape[1:])).copy()) if fill.ndim else float(fill)
            )
        return tuple(fills)


def _numbers(fill: object) -> bool:
    """Whether a fill is a finite number or a list of them."""
    each = list(fill) if isinstance(fill, list | tuple | np.ndarray) else [fill]
    fine = [isinstance(v, int | float | np.number) and not isinstance(v, bool) and bool(np.isfinite(v)) for v in each]
    return bool(each) and all(fine)


@explainer(
    "captum.feature_permutation",
    "score drop when a group of entries is taken from another sample",
    "Fisher et al. 2019",
)
class FeaturePermutation(GroupMethod, needs="scores", family="perturbation", profiles=NATIVE):
    """Drop of the score when one group of entries at a time is swapped for another sample's (Fisher et al. 2019).

    The map compares samples with each other by definition. Captum permutes a batch at random, so that it also depends on
    how the samples were batched and in which order; here each group of a sample takes the entries that one of the
    question's other samples has in the same place. Which one is drawn, group by group, from the sample's own name and
    `seed` among the other names in alphabetical order: the map depends on the set of samples alone. Captum does the
    rest, through its `perm_func`. One sample alone is `Unsupported`. The parameter `baseline` has no meaning here.
    """

    contrasts: ClassVar[bool] = True
    """It compares samples with each other."""

    seed: int = 0

    def passes(self, question: Question) -> Passes:
        return 1 + self.group_count(question), 0

    def _in_chunks(self, question: Question) -> Maps:
        return self.explain(question)  # the donors are all samples; `explain` takes the copies in pieces

    def explain(self, question: Question) -> Maps:
        if len(question) < 2:
            raise Unsupported(f"{self.name} swaps entries between samples, and there is only one: ask about several")
        parts = []
        for rows, labels in self.alike(question):
            pieces = -(-len(rows) // (4 * question.batch_size))
            for some in np.array_split(np.arange(len(rows)), pieces):
                parts.append((rows[some], self._swapped(question, rows[some], labels[0][some])))
        return _in_place(parts), {}

    def _swapped(self, question: Question, rows: Rows, labels: Labels) -> Inputs:
        import torch

        donors = torch.from_numpy(
            np.stack([self._donor(question, row, own) for row, own in zip(rows, labels, strict=True)])
        )

        def swap(x: Any, mask: Any) -> Any:
            return torch.where(mask, donors, x)

        method = captum(self.name).FeaturePermutation(forward(question, there=False), swap)
        method._min_examples_per_batch_grouped = None  # Captum skips a batch of one; donors come from outside the batch
        return _ablated(method, question, rows, (labels,))

    def _donor(self, question: Question, row: int, labels: Labels) -> Array:
        """The sample with every group taken from the sample drawn for it; Captum then shows one group at a time."""
        (values,) = question.values
        others = sorted((name, i) for i, name in enumerate(question.ids) if i != row)
        drawn = question.rng(row, self.seed).integers(len(others), size=int(labels.max()) + 1)
        chosen = np.array([others[i][1] for i in drawn])[labels]
        donor: Array = values[row]
        for other in np.unique(chosen):
            donor = np.asarray(np.where(chosen == other, values[other], donor))
        return donor
