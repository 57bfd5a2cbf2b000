"""LIME for images and tables on any model: the lime library's own sampling and regression, scores from the question."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.device_stream import backend_of
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.explainers.device_copies import group_scorer
from crossxai.explainers.groups import check_segmentation, groups, lime_samples
from crossxai.explainers.method import Maps, Method, explainer, profiles
from crossxai.explainers.native import patched
from crossxai.model import Array, to_unit_interval
from crossxai.process import require
from crossxai.question import Question

Labels = npt.NDArray[np.int64]


@explainer("lime.image", "local linear model over image segments", "Ribeiro et al. 2016")
@profiles(
    native="hidden segments filled with their mean colour, cosine distance, width 0.25, Ridge(1)",
    canonical="hidden segments filled with one value, cosine distance, width 0.25, Ridge(1), no feature selection",
)
class Image(
    Method, needs="scores", family="surrogate", kinds=("image", "volume"), fits=True, least={"samples": 2, "patch": 1}
):
    """Weights of a linear model over segments that are shown or hidden (Ribeiro et al. 2016), painted on the segments.

    Canonically segments and binary samples depend on the sample's name and the seed alone. lime itself takes 1 or 3 channels;
    with other numbers, and for volumes, its segmentation and its mean colours, which know three, are ours. The extra `r2` (n,) is
    the weighted fit of the linear model.

    Parameters
    ----------
    segmentation : str, default ''
        "quickshift", "slic", "felzenszwalb", "grid" or the path of a .npz file; see `crossxai.explainers.groups.groups`. "" is
        quickshift for images and supervoxels, "slic", for volumes.
    fill : float or None, default None
        What hidden segments are filled with, in raw input units; None is the segment's mean colour (native) or 0 (canonical).
    """

    samples: int = 1000
    segmentation: str = ""
    patch: int = 16
    fill: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segmentation:
            check_segmentation(self.segmentation, self.name, ("quickshift", "slic", "felzenszwalb", "grid"))

    def explain(self, question: Question) -> Maps:
        library = require("lime.lime_image", "lime", self.name)
        _, values = question.one
        maps = np.zeros((*values.shape[:-1], 1), np.float32)
        fit = np.zeros(len(values))
        # Its progress bar, one per image, has no option to turn it off.
        with patched([library], tqdm=lambda rows: rows):
            for row in range(len(values)):
                maps[row, ..., 0], fit[row] = self._one(library, question, row)
        return (maps,), {"r2": fit}

    def _one(self, library: Any, question: Question, row: int) -> tuple[npt.NDArray[np.float64], float]:
        rng = question.rng(row, self.seed)
        modality, image = question.modalities[0], question.values[0][row]
        channels = image.shape[-1]
        canonical = self.profile == "canonical"
        # lime's own segmentation wherever it has one: it draws its seed.
        flat = image.ndim == 3
        given = canonical or self.segmentation not in ("", "quickshift") or channels not in (1, 3) or not flat
        grey = channels == 1 and flat and not canonical  # lime makes colours of grey

        def scores(images: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
            copies = (images[..., :1] if grey else images).astype(image.dtype)
            return question.score((copies,), np.full(len(copies), row))[:, None]

        kind = _scored_there(library.LimeImageExplainer, question, row, grey)
        fill = 0.0 if canonical and self.fill is None else self.fill
        if fill is None and (channels not in (1, 3) or not flat):
            kind, fill = _mean_filled(kind), 0.0
        state = np.random.RandomState(0 if canonical else rng.integers(2**32))  # lime takes no Generator
        seed = 0 if canonical else int(rng.integers(1000))
        if given:
            segments = groups(question, row, self.segmentation, self.patch, self.seed)[0][..., 0]
        else:  # as the library calls it, with the image in [0, 1]
            own = library.SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2, random_seed=seed)
            inside = to_unit_interval(image, modality)
            segments = own(np.repeat(inside, 3, axis=-1) if grey else inside)
        explainer = kind(feature_selection="none" if canonical else "auto", random_state=state)
        if canonical:
            explainer.random_state = _Drawn(lime_samples(rng, self.samples, int(segments.max()) + 1))
        explanation = explainer.explain_instance(
            np.repeat(image, 3, axis=-1) if grey else image,
            scores,
            labels=(0,),
            top_labels=None,
            hide_color=fill,
            num_samples=self.samples,
            batch_size=question.batch_size,
            segmentation_fn=lambda _image: segments,
            random_seed=seed,
        )
        weights = np.zeros(int(explanation.segments.max()) + 1)
        for segment, weight in explanation.local_exp[0]:
            weights[segment] = weight
        fit = explanation.score[0] if isinstance(explanation.score, dict) else explanation.score
        return weights[explanation.segments], float(fit)


class _Drawn:
    """Answers lime's one call, `randint(0, 2, size)`, with samples drawn before."""

    def __init__(self, samples: Labels) -> None:
        self.samples = samples

    def randint(self, _low: int, _high: int, _size: int) -> Labels:
        return self.samples.reshape(-1)


def _scored_there(kind: Any, question: Question, row: int, grey: bool) -> Any:
    """lime's explainer with copies made where the model runs, by lime's own draw, if that is not the host's memory."""
    if backend_of(question) is None:
        return kind

    class ScoredThere(kind):  # type: ignore[misc]
        def data_labels(
            self, _image: Array, fudged: Array, segments: Labels, _scores: Any, samples: int, **_options: Any
        ) -> Any:
            number = len(np.unique(segments))
            shown = self.random_state.randint(0, 2, samples * number).reshape(samples, number)
            shown[0] = 1
            scores = group_scorer(question, row, [segments[..., None]], [fudged[..., :1] if grey else fudged])
            assert scores is not None
            return shown, scores(shown)[:, None]

    return ScoredThere


def _mean_filled(kind: Any) -> Any:
    """lime's explainer with hidden segments filled with their mean over every channel, of which it knows three."""

    class MeanFilled(kind):  # type: ignore[misc]
        def data_labels(
            self, image: Array, fudged_image: Array, segments: Labels, *arguments: Any, **options: Any
        ) -> Any:
            for segment in np.unique(segments):
                fudged_image[segments == segment] = image[segments == segment].mean(axis=0)
            return super().data_labels(image, fudged_image, segments, *arguments, **options)

    return MeanFilled


@explainer("lime.tabular", "local linear model over a table's columns", "Ribeiro et al. 2016")
@profiles(native="columns drawn anew, Euclidean distance, width 0.75 · √columns, Ridge(1)")
class Tabular(Method, needs="scores", family="surrogate", kinds=("table",), fits=True, positive=("sd",)):
    """Weights of a linear model over columns that are drawn anew (Ribeiro et al. 2016), for the score as a number.

    With a background, lime cuts each column into its quartiles, and a weight says what it means to be in the sample's quartile.
    Without one, columns are drawn from a normal distribution around the sample, and a weight is the effect of one `sd`. Either
    way a map depends on nothing but the sample, its name and the seed. The extra `r2` (n,) is the weighted fit of the linear
    model.

    Parameters
    ----------
    features : int, default 10
        The most columns that get a weight, chosen as lime chooses them; the others get 0.
    background : str, default ''
        The path of a .npy file (rows, columns) of training data, for which lime has no default; "" is none.
    sd : float, default 1.0
        Standard deviation around the sample, in units of the column, or as a share of the modality's declared range.
    """

    least: ClassVar = {"samples": 2, "features": 1}

    samples: int = 5000
    features: int = 10
    background: str = ""
    sd: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.background and not self.background.endswith(".npy"):
            raise InvalidInput(f"{self.name}: background is the path of a .npy file, got {self.background!r}")

    def explain(self, question: Question) -> Maps:
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

            explanation = one.explain_instance(own, scores, num_features=self.features, num_samples=self.samples)
            for column, weight in explanation.local_exp[1]:  # 1 is lime's name for "more"; under 0 the signs are turned
                maps[row, column] = weight
            fit[row] = explanation.score
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
