"""Groups of input entries that perturbation methods switch on and off together, and which groups they show at once."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidFile, InvalidInput, Unsupported
from crossxai.model import Array, Inputs, Modality, to_unit_interval
from crossxai.question import Question, Rows

Labels = npt.NDArray[np.int64]

SEGMENTATIONS = ("grid", "quickshift", "slic", "felzenszwalb", "scalars", "modalities")


def check_segmentation(segmentation: str, name: str, names: Sequence[str] = SEGMENTATIONS) -> None:
    """Raise `InvalidInput` unless it is a known way to group, or the path of a .npz file."""
    if segmentation not in names and not segmentation.endswith(".npz"):
        known = ", ".join(names)
        raise InvalidInput(f"{name}: segmentation is one of {known}, or the path of a .npz file, got {segmentation!r}")


def groups(
    question: Question, row: int, segmentation: str = "grid", patch: int = 16, seed: int = 0
) -> tuple[Labels, ...]:
    """Group numbers 0, 1, … of one sample's entries, counted through all free modalities.

    One array per free modality, broadcastable to it without the sample axis: (*space, 1) for images, (*space, channels) for
    "scalars", (features,) for tables, whose columns are always one group each, except under "modalities".
    "grid": squares of `patch` pixels, clipped at the far borders. "quickshift": kernel 4, distance 200, ratio 0.2, as lime
    has it. "slic", "felzenszwalb": scikit-image's defaults with about one segment per patch². "scalars": every number alone.
    Of volumes "grid" are cubes, "slic" supervoxels of about patch³, and the two others are none. "" is "quickshift" for images
    and "slic" for volumes.
    "modalities": one group per modality. A path ending in .npz: an integer array (*space) per sample, under the sample's id,
    or under "modality/id" where there are several images. Segments are those of the image with its declared range put to
    [0, 1], or, where none is declared, its own smallest and largest value: no unit changes them.
    """
    numbered: list[Labels] = []
    first = 0
    for modality, values in zip(question.modalities, question.values, strict=True):
        labels = _labels(modality, values[row], question.ids[row], segmentation, patch, seed)
        _, numbers = np.unique(labels, return_inverse=True)
        numbered.append(numbers.reshape(labels.shape).astype(np.int64) + first)
        first = count(numbered)
    return tuple(numbered)


def count(labels: Sequence[Labels]) -> int:
    """How many groups one sample has, given the numbers of its entries in all modalities."""
    return 1 + max(int(numbers.max()) for numbers in labels)


def spread(weights: Array, labels: tuple[Labels, ...]) -> tuple[Array, ...]:
    """One weight per group, (groups,), painted on the entries of each modality."""
    return tuple(weights[numbers] for numbers in labels)


def _labels(modality: Modality, values: Array, sample: str, segmentation: str, patch: int, seed: int) -> Labels:
    segmentation = segmentation or ("quickshift" if modality.kind == "image" else "slic")
    if segmentation == "modalities":
        return np.zeros((*values.shape[:-1], 1) if modality.spatial else values.shape, np.int64)
    if not modality.spatial or segmentation == "scalars":
        return np.arange(values.size).reshape(values.shape)
    if segmentation == "grid":
        return _grid(values.shape[:-1], patch)[..., None]
    if segmentation.endswith(".npz"):
        return _given(segmentation, modality, values, sample)[..., None]
    if modality.kind != "image" and (segmentation != "slic" or len(modality.axes) != 4):
        write = "slic or grid" if len(modality.axes) == 4 else "grid"
        raise InvalidInput(
            f"{segmentation} segments 2-D images; modality {modality.name!r} is a {modality.kind}: use {write}"
        )
    return np.asarray(_segments(to_unit_interval(values, modality), segmentation, patch, seed), np.int64)[..., None]


def _grid(space: tuple[int, ...], patch: int) -> Labels:
    numbers: Labels = np.zeros(space, np.int64)
    for axis, size in enumerate(space):
        index = (np.arange(size) // patch).reshape([-1 if a == axis else 1 for a in range(len(space))])
        numbers = numbers * -(-size // patch) + index
    return numbers


def _segments(image: Array, segmentation: str, patch: int, seed: int) -> Any:
    import skimage.segmentation as skimage

    colour = image.ndim == 3 and image.shape[-1] == 3  # channels of a volume are no colours
    if segmentation == "quickshift":
        if image.shape[-1] == 1:  # grey as lime takes it, in units of Lab, without which there is but one segment
            image, colour = np.repeat(image, 3, axis=-1), True
        return skimage.quickshift(
            image.astype(np.float64), kernel_size=4, max_dist=200, ratio=0.2, convert2lab=colour, rng=seed
        )
    if segmentation == "slic":
        segments = max(2, math.prod(image.shape[:-1]) // patch ** (image.ndim - 1))
        return skimage.slic(image, n_segments=segments, convert2lab=colour, channel_axis=-1, start_label=0)
    return skimage.felzenszwalb(image, min_size=max(2, patch**2 // 4), channel_axis=-1)


def _given(path: str, modality: Modality, values: Array, sample: str) -> Labels:
    if not Path(path).is_file():
        raise InvalidFile(f"there is no segmentation file {path}")
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as stored:
            keys = [key for key in (f"{modality.name}/{sample}", sample) if key in stored]
            labels: Labels | None = stored[keys[0]] if keys else None
            known = ", ".join(list(stored)[:5])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidFile(f"{path} is no .npz file of plain arrays: {error}") from error
    if labels is None:
        raise InvalidInput(f"{path} holds no segments for sample {sample!r}: it has {known}")
    if labels.shape != values.shape[:-1] or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInput(
            f"{path}: segments of sample {sample!r} are {labels.dtype} {labels.shape}, whole numbers of shape "
            f"{values.shape[:-1]} are needed"
        )
    return labels


def lime_samples(rng: np.random.Generator, samples: int, groups: int) -> npt.NDArray[np.int64]:
    """Zeros and ones (samples, groups), each group shown with probability one half; the first row shows all."""
    shown = rng.integers(0, 2, (samples, groups))
    shown[0] = 1
    return shown


def shap_coalitions(rng: np.random.Generator, samples: int, groups: int) -> npt.NDArray[np.int64]:
    """Zeros and ones (samples, groups): sizes drawn from the Shapley kernel (Lundberg & Lee 2017, theorem 2), members
    uniformly, so that every row weighs the same in the regression; neither nothing nor everything is drawn. Raises
    `Unsupported` for fewer than two groups."""
    if groups < 2:
        raise Unsupported(f"Kernel SHAP compares groups of entries, and there is only {groups}: choose smaller groups")
    possible = np.arange(1, groups)
    weight = (groups - 1) / (possible * (groups - possible))
    sizes = rng.choice(possible, size=samples, p=weight / weight.sum())
    shown = np.zeros((samples, groups), np.int64)
    for row, size in zip(shown, sizes, strict=True):
        row[rng.permutation(groups)[:size]] = 1
    return shown


def constrained_values(shown: Array, scores: Array) -> Array:
    """Values (groups,) of the least squares over coalitions `shown`, zeros and ones (2 + samples, groups), and their scores,
    whose first row (everything) and second (nothing) hold exactly. Takes the place of a library's own regression."""
    total = scores[0] - scores[1]
    # Values that add up to `total`: an equal share each, plus what lies in the space of vectors that add up to nothing.
    inside = np.linalg.svd(np.ones((1, shown.shape[1])))[2][1:].T
    rest = scores[2:] - scores[1] - shown[2:].mean(axis=1) * total
    fitted = np.linalg.lstsq(shown[2:] @ inside, rest, rcond=None)[0]
    return np.asarray(total / shown.shape[1] + inside @ fitted)


@dataclass(frozen=True)
class FiniteQuestion(Question):
    """The same question; raises `Unsupported` where the score of a copy is NaN or infinite. who: the explainer."""

    who: str = ""

    def score_stream(
        self, rows: npt.ArrayLike, make: Callable[[Rows], Inputs], progress: Callable[[int], object] | None = None
    ) -> Array:
        """As of a `Question`."""
        scores = super().score_stream(rows, make, progress)
        self.require_finite(scores, rows)
        return scores

    def require_finite(self, scores: Array, rows: npt.ArrayLike) -> None:
        """Raise `Unsupported` unless the scores (m,) of copies of samples rows (m,) are finite."""
        bad = ~np.isfinite(scores)
        if bad.any():
            own = np.asarray(rows) == (row := np.asarray(rows)[bad][0])
            raise Unsupported(
                f"{self.who} fits the scores of perturbed copies, and the model's score is NaN or infinite on "
                f"{(bad & own).sum()} of {own.sum()} of them, made of sample {self.ids[row]!r}: give another fill or baseline, "
                "or mend the model (does it divide by a deviation, or take a logarithm, that can be 0?)"
            )
