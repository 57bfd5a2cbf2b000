"""Xplique's local linear models on any model: its own masks and fit, every score from the question."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.groups import check_segmentation, constrained_values, groups, lime_samples, shap_coalitions
from crossxai.explainers.method import Maps, Method, Passes, explainer, profiles
from crossxai.explainers.xplique import NumberedQuestion, XpliqueMethod, planes, seeded
from crossxai.model import Array, to_unit_interval
from crossxai.process import require
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class _Surrogate(XpliqueMethod, kinds=Method.kinds, least={"samples": 2, "patch": 1}, needs="scores", fits=True):
    """What Xplique's fits over groups share.

    Parameters
    ----------
    samples : int, default 2
        Perturbed copies of each sample; at most 4 · batch_size of them exist at once, with their masks.
    segmentation : str, default ''
        How pixels are grouped, all channels together; see `crossxai.explainers.groups.groups`. "" is the profile's own: natively
        Xplique's quickshift (ratio 0.5, kernel 2; one channel: felzenszwalb), canonically "quickshift"; of volumes "slic".
    fill : float or None, default None
        What hidden groups are filled with, in raw input units. None is natively Xplique's grey for three channels, which is the
        middle of the declared range (0.5 where none is declared), else 0; canonically 0.
    """

    fewest: ClassVar[int] = 1

    samples: int = 2
    segmentation: str = ""
    patch: int = 16
    fill: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segmentation == "scalars":
            raise InvalidInput(f"{self.name}: Xplique hides all channels of a pixel together: write grid, not scalars")
        if self.segmentation:
            check_segmentation(self.segmentation, self.name)

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        import tensorflow as tf

        modality, values = question.one
        channels = values.shape[-1] if modality.spatial else 1
        native = self.profile == "native"
        unsegmented = not self.segmentation and modality.kind == "image"
        if native and modality.spatial and channels not in (1, 3) and (self.fill is None or unsegmented):
            raise Unsupported(
                f"{self.name}: Xplique segments and fills images of 1 or 3 channels, modality {modality.name!r} has "
                f"{channels}: give segmentation and fill"
            )
        fill = self.fill if native or self.fill is not None else 0.0
        low, high = modality.range or (0.0, 1.0)
        if fill is None and channels == 3 and modality.spatial:
            fill = (low + high) / 2  # the library's 0.5 is "a grey pixel when inputs are normalized by 255"
        method = self._method(
            library,
            high - low,
            operator=asked.operator,
            batch_size=4 * question.batch_size,
            nb_samples=self.samples,
            ref_value=None if fill is None else np.full(channels, fill, np.float32),
        )
        mappings = [self._mapping(library, question, row) for row in range(len(question))]
        # All draws come first: seeding clears what TensorFlow has prepared for its functions, and costs each of them 10 ms.
        shown = [self._shown(method, question, row, mapping) for row, mapping in enumerate(mappings)]
        maps = []
        for row, mapping in enumerate(mappings):
            method.map_to_interpret_space = lambda _image, mapping=mapping: tf.constant(mapping, tf.int32)
            method.pertub_func = lambda _number, _samples, row=row: tf.constant(shown[row], tf.int32)
            maps.append(method(planes(values[row : row + 1]), asked.rows[row : row + 1]).numpy())
        return (np.concatenate(maps),), self._extras(method)

    def _shown(
        self, method: Any, question: Question, row: int, mapping: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.integer[Any]]:
        """What each copy of one sample shows (samples, groups); natively the library's own draw."""
        number = int(mapping.max()) + 1
        if number < self.fewest:
            raise Unsupported(
                f"{self.name} compares groups of entries, and sample {question.ids[row]!r} has only one: choose smaller groups"
            )
        rng = question.rng(row, self.seed)
        if self.profile == "canonical":
            return self._draw(rng, number)
        with seeded(None, int(rng.integers(2**31))):
            drawn = method.pertub_func.python_function(np.array([number], np.int32), self.samples)
            return np.asarray(drawn.numpy())

    def _mapping(self, library: Any, question: Question, row: int) -> npt.NDArray[np.int64]:
        import tensorflow as tf

        modality, values = question.one
        if modality.kind == "image" and self.profile == "native" and not self.segmentation:
            shape = "image" if values.shape[-1] == 3 else "2dimage"
            segment = getattr(library.Lime, f"_default_{shape}_map_to_interpret_space")
            return np.asarray(segment(tf.constant(to_unit_interval(values[row], modality), tf.float32)), np.int64)
        (labels,) = groups(question, row, self.segmentation, self.patch, self.seed)
        mapping: npt.NDArray[np.int64] = planes(labels[None])[0, ..., 0] if modality.spatial else labels
        return mapping

    def _method(self, library: Any, width: float, **options: Any) -> Any:
        """The library's method; width: of the modality's declared range, 1 where none is declared."""
        raise NotImplementedError

    def _draw(self, rng: np.random.Generator, number: int) -> npt.NDArray[np.int64]:
        """The canonical profile's samples over so many groups."""
        raise NotImplementedError

    def _extras(self, method: Any) -> dict[str, Array]:
        return {}


@explainer("xplique.lime", "local linear model over groups of entries", "Ribeiro et al. 2016")
@profiles(
    native="euclidean distance of the inputs, width 45, Ridge(2), hidden groups grey",
    canonical="cosine distance of the binary samples, width 0.25, Ridge(1), hidden groups filled with one value",
)
class Lime(_Surrogate, family="surrogate"):
    """Weights of a linear model over groups that are shown or hidden (Ribeiro et al. 2016), painted on the groups.

    The native kernel is exp(-d² / w²), w in units of the width of the declared range, the canonical one exp(-d² / 2w²); the
    first of the canonical samples shows everything. The extra `r2` (n,) is the weighted fit of the linear model.
    """

    samples: int = 150

    def _method(self, library: Any, width: float, **options: Any) -> Any:
        native = self.profile == "native"
        kernel = _euclidean(45.0 * width) if native else _binary_cosine
        return library.Lime(None, interpretable_model=_ridge(2 if native else 1), similarity_kernel=kernel, **options)

    def _draw(self, rng: np.random.Generator, number: int) -> npt.NDArray[np.int64]:
        return lime_samples(rng, self.samples, number)

    def _extras(self, method: Any) -> dict[str, Array]:
        return {"r2": np.array(method.interpretable_model.fits)}


@cache
def _euclidean(width: float) -> Any:
    """The library's default kernel, kept: each instance would trace its own."""
    return require("xplique.attributions", "xplique", "LIME").Lime._get_exp_kernel_func("euclidean", width)


def _ridge(alpha: float) -> Any:
    """A ridge regression of its own (the library's default is one object that all its users fit), which notes its fits."""
    from sklearn.linear_model import Ridge

    class Noting(Ridge):  # type: ignore[misc]
        def fit(self, shown: Any, scores: Any, sample_weight: Any = None) -> Any:
            super().fit(shown, scores, sample_weight)
            self.fits = [*getattr(self, "fits", []), float(self.score(shown, scores, sample_weight))]
            return self

    return Noting(alpha=alpha)


def _binary_cosine(_image: Any, shown: Any, _copies: Any) -> Any:
    """exp(-d² / 2w²), d the cosine distance of a binary sample from the one that shows everything, 1 for an empty one."""
    import tensorflow as tf

    distance = 1 - np.sqrt(shown.numpy().mean(axis=1))
    return tf.constant(np.exp(-(distance**2) / (2 * 0.25**2)))


@explainer("xplique.kernel_shap", "Shapley values of groups by regression", "Lundberg & Lee 2017")
@profiles(
    native="coalitions drawn from the Shapley kernel, a free intercept",
    canonical="coalitions drawn from the Shapley kernel, everything and nothing are constraints",
)
class KernelShap(_Surrogate, family="Shapley", fewest=2):
    """Shapley values by a regression over coalitions of groups (Lundberg & Lee 2017, theorem 2).

    Natively nothing ties the values to the scores of everything and of nothing, so they do not add up. Canonically these two
    are scored too, and the values add up to score(input) - score(fill). Fewer coalitions than groups leave values open: the
    smallest ones that add up are given.
    """

    samples: int = 800

    def passes(self, question: Question) -> Passes:
        return self.samples + (2 if self.profile == "canonical" else 0), 0

    def _method(self, library: Any, width: float, **options: Any) -> Any:
        method = library.KernelShap(None, **options)
        if self.profile == "canonical":
            method.interpretable_model = _Constrained()
        return method

    def _draw(self, rng: np.random.Generator, number: int) -> npt.NDArray[np.int64]:
        ends = np.ones((1, number), np.int64), np.zeros((1, number), np.int64)
        return np.concatenate([*ends, shap_coalitions(rng, self.samples, number)])


class _Constrained:
    """Least squares whose first row (everything) and second (nothing) hold exactly: in place of the library's regression."""

    def fit(self, shown: Any, scores: Any, sample_weight: Any = None) -> None:
        self.coef_ = constrained_values(shown.astype(np.float64), scores.astype(np.float64))
