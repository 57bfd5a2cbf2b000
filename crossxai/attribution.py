"""Attribution and Scores, the results of explainers and of metrics, and the protocols of both."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeGuard, get_args

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput, UnknownName
from crossxai.model import Array, Inputs, Modality, equal
from crossxai.question import Question

Profile = Literal["native", "canonical"]
Needs = Literal["scores", "gradients", "layers", "module", "attention", "nothing"]
Reduction = Literal["sum", "mean", "abs_sum", "abs_max"]


@dataclass(frozen=True)
class Attribution:
    """One map per free modality, broadcastable to the inputs.

    Parameters
    ----------
    values : tuple of arrays (n, *axes), one per modality, or with a last axis of 1 for maps per pixel
    modalities : tuple of Modality, the modalities that were explained, in the same order
    ids : tuple of n str, the samples
    explainer : str, the name of the explainer
    profile : {"native", "canonical"}
        "native" (the library's defaults) or "canonical" (the documented definition on which libraries agree).
    params : mapping, the explainer's parameters as used
    extras : mapping, what else the explainer learnt
    seconds : float, time it took
    notes : tuple of str, sentences for the reader of the maps, such as the layer and the grid they were drawn at
    inputs : tuple of arrays, optional, what was explained, one array per map; not compared
    target : Target or another measure, or classes, optional, what of it was explained; not compared
    origin : crossxai.files.Origin, optional
        The model and all its inputs and outputs, as `explain` fills it in, by which `evaluate` knows another model to be the same
        function; not compared.
    spaces : mapping of str to tuple of crossxai.files.spaces.Space, optional
        By modality, where the voxels of each sample lie, of those that were read from scans: `export` writes the maps there; not
        compared.

    Raises
    ------
    InvalidInput: if the shapes do not agree
    """

    values: Inputs
    modalities: tuple[Modality, ...]
    ids: tuple[str, ...]
    explainer: str
    profile: str = "native"
    params: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = float("nan")
    notes: tuple[str, ...] = ()
    inputs: Inputs | None = field(default=None, repr=False, compare=False)
    target: Any = field(default=None, repr=False, compare=False)
    origin: Any = field(default=None, repr=False, compare=False)
    spaces: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.values) != len(self.modalities):
            raise InvalidInput(f"{len(self.values)} maps for {len(self.modalities)} modalities")
        for modality, values in zip(self.modalities, self.values, strict=True):
            if values.ndim != len(modality.axes) + 1 or values.shape[-1] not in (1, len(modality.features)):
                raise InvalidInput(
                    f"{self.explainer}: map of {modality.name!r} has shape {values.shape}; it needs the axes (sample, "
                    f"{', '.join(modality.axes)}), the last of length 1 or {len(modality.features)}"
                )
            if len(values) != len(self.ids):
                raise InvalidInput(f"{self.explainer}: {len(values)} maps for {len(self.ids)} samples")

    def __eq__(self, other: object) -> bool:
        return equal(self, other)

    def __hash__(self) -> int:
        return hash((self.explainer, self.profile, self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        maps = ", ".join(f"{name} {values.shape}" for name, values in self.maps.items())
        return f"Attribution({self.explainer}, {self.profile}: {maps})"

    def _repr_html_(self) -> str:
        shown: str = _above("experiment.results", "attribution_html")(self)
        return shown

    def plot(self, modality: str = "", samples: Sequence[int] | None = None, title: str = "") -> Any:
        """Maps over their inputs, a column per sample.

        Parameters
        ----------
        modality : str, whose maps; the first if not given
        samples : sequence of int, optional, which samples, by their place; the first six if not given
        title : str, above the figure

        Returns
        -------
        matplotlib.figure.Figure
        """
        return _above("experiment.results", "plot_attribution")(self, modality, samples, title)

    def to_xarray(self) -> Any:
        """An `xarray.Dataset`: a variable per modality with named axes and samples; needs xarray.

        Returns
        -------
        xarray.Dataset

        Raises
        ------
        MissingDependency: where xarray is not installed
        """
        return _above("experiment.results", "to_xarray")(self)

    def save(self, path: str | Path, inputs: bool = True) -> Path:
        """Write the maps to an HDF5 file (docs/file-format.md), which `crossxai.Attribution.load` reads.

        Parameters
        ----------
        path : path
        inputs : bool, default True
            Whether with the samples that were explained, so that the file alone can be evaluated. False where they are not to be
            handed on, as pictures of patients: who evaluates the file then brings them.

        Returns
        -------
        Path, the file's

        Raises
        ------
        InvalidFile: if it cannot be written
        """
        written: Path = _above("files", "write_attribution")(Path(path), self, inputs)
        return written

    def recipe(self) -> Any:
        """How these maps were made, by which they are made again on another model, also in the other framework.

        Returns
        -------
        Recipe, for `xai.explain(…, recipe=…)`; `.save(path)` writes it as TOML

        Raises
        ------
        InvalidInput: of maps of which TOML cannot say it, such as those of another program
        """
        return _above("experiment.recipe", "recipe_of")(self)

    def export(self, path: str | Path, kind: str = "", affine: Any = None) -> Path:
        """Write the maps for other programs.

        Parameters
        ----------
        path : path
            A file for "npz", a folder for the others; of one sample's only map of space also a `.nii.gz`.
        kind : {"npz", "png", "nifti"}, optional
            "npz": one NumPy file with an array per modality, channels last, and `ids`. "png": a picture per sample and modality,
            the map over its input where that is known. "nifti": a `.nii.gz` per sample of each image or volume; needs nibabel.
            Maps of scans in files have their scan's voxels, axes and affine, so that viewers lay them over it; others the
            axes x, y, z, channels. By the ending if not given: "npz" for `.npz`, "nifti" for `.nii.gz` and for a folder of maps
            of scans, else "png".
        affine : (4, 4) or (n, 4, 4), optional
            Of "nifti": where the voxels of arrays lie, as `nibabel.load(scan).affine` says; 1 mm apart if not given. Not of maps
            of scans in files, which know.

        Returns
        -------
        Path, as given

        Raises
        ------
        UnknownName, InvalidInput, InvalidFile, MissingDependency
            Where the kind is unknown, does not fit the maps, cannot be written or lacks its library.
        """
        written: Path = _above("report.exporting", "export")(self, Path(path), kind, affine)
        return written

    @classmethod
    def of_array(
        cls,
        values: Any,
        modality: Modality | None = None,
        *,
        layout: str,
        explainer: str,
        target: Any = None,
        ids: Sequence[str] = (),
        params: Mapping[str, Any] | None = None,
    ) -> Attribution:
        """Maps that another program made, such as Captum, pytorch-grad-cam or Xplique called by hand.

        Parameters
        ----------
        values : array or tensor of floats, the maps of all samples
        modality : Modality, optional
            What was explained; an RGB image in [0, 1] if not given.
        layout : str
            The order of the axes of `values`: of images "NCHW", "NHWC" or, one value per pixel, "NHW"; of volumes "NCDHW",
            "NDHWC" or "NDHW"; of tables "NF".
        explainer : str, the name that tables and files show
        target : int or (n,) classes, Target or another measure, optional
            What was explained, which `evaluate` then measures.
        ids : sequence of n str, optional, the samples' names; "0", "1" … if not given
        params : mapping, optional, the parameters the maps were made with, to be shown

        Returns
        -------
        Attribution, channels last

        Raises
        ------
        InvalidInput: where the array does not have the axes or lengths that are declared
        """
        made: Attribution = _above("data.maps", "attribution_of")(
            values, modality or Modality.image(), layout, explainer, target=target, ids=ids, params=params or {}
        )
        return made

    @classmethod
    def load(cls, path: str | Path) -> Attribution:
        """Read what `save` wrote; raises `InvalidFile`."""
        read: Attribution = _above("files", "read_attribution")(Path(path))
        return read

    @property
    def maps(self) -> dict[str, Array]:
        """The maps by the names of their modalities."""
        return {m.name: values for m, values in zip(self.modalities, self.values, strict=True)}

    def of(self, modality: str) -> Array:
        """The map of one modality, by name."""
        maps = self.maps
        if modality not in maps:
            raise UnknownName("modality of this attribution", modality, maps)
        return maps[modality]

    def units(self, modality: str, reduction: Reduction = "sum") -> Array:
        """One number per unit that a metric removes: pixels (n, *space) for images, columns (n, features) for tables."""
        values = self.of(modality)
        if not next(m for m in self.modalities if m.name == modality).spatial:
            return values
        return reduce_channels(values, reduction)

    def degenerate(self) -> npt.NDArray[np.str_]:
        """Per sample: "" for a usable map, else "nan" (NaN or infinite), "zero" or "constant"; all modalities together."""
        flat = np.concatenate([v.reshape(len(self), -1) for v in self.values], axis=1)
        kinds = np.full(len(self), "", dtype="<U8")
        kinds[np.ptp(flat, axis=1) == 0] = "constant"
        kinds[(flat == 0).all(axis=1)] = "zero"
        kinds[~np.isfinite(flat).all(axis=1)] = "nan"
        return kinds


def _above(module: str, name: str) -> Any:
    """What draws or writes a result: it lies above the seam, which knows it by its name alone."""
    return getattr(importlib.import_module(f"crossxai.{module}"), name)


def reduce_channels(values: Array, reduction: Reduction = "sum") -> Array:
    """Take the channel axis (last) away: sum, mean, sum of absolute values, or largest absolute value."""
    if reduction not in get_args(Reduction):
        raise InvalidInput(f"unknown reduction {reduction!r}: write sum, mean, abs_sum or abs_max")
    _, absolute, name = reduction.rpartition("abs_")
    return np.asarray(getattr(np.abs(values) if absolute else values, name)(axis=-1))


class Explainer(Protocol):
    """A frozen dataclass of parameters that explains a question with maps; see `crossxai.explainers`.

    Attributes
    ----------
    name : str, such as "captum.saliency"; different for every explainer
    library : str, the library that computes the maps
    needs : {"scores", "gradients", "layers", "module", "attention", "nothing"}, what it needs of the model
    profiles : tuple of {"native", "canonical"}, the profiles that it knows
    """

    name: ClassVar[str]
    library: ClassVar[str]
    needs: ClassVar[Needs]
    profiles: ClassVar[tuple[Profile, ...]]

    @property
    def profile(self) -> Profile: ...

    def __call__(self, question: Question) -> Attribution: ...


Axis = Literal["faithfulness", "localisation", "stability", "randomisation", "complexity", "axiomatic", "cross-modal"]
"""What a metric measures."""

Range = tuple[float | None, float | None]
"""The smallest and largest value of a metric, None for "any"."""


@dataclass(frozen=True)
class Scores:
    """One number per sample that a metric gives for an attribution.

    Parameters
    ----------
    metric : str, the name of the metric
    value : array (n,), one number per sample, NaN where the metric is undefined for that sample
    higher_is_better : bool, the direction of `value`
    curve : array (n, points), optional, for metrics that have one
    fractions : array (n, points) or (points,), optional, where the curve was measured
    extras : mapping of str to array (n,), more numbers per sample, such as the tie rate
    params : mapping, the metric's parameters as used

    Raises
    ------
    InvalidInput: if the shapes do not agree
    """

    metric: str
    value: Array
    higher_is_better: bool
    curve: Array | None = None
    fractions: Array | None = None
    extras: Mapping[str, Array] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.value.ndim != 1:
            raise InvalidInput(f"{self.metric}: scores must have shape (n,), got {self.value.shape}")
        if self.curve is not None and (self.fractions is None or self.curve.shape[-1] != self.fractions.shape[-1]):
            raise InvalidInput(f"{self.metric}: a curve needs fractions of the same length")

    def part(self, rows: npt.NDArray[np.intp]) -> Scores:
        """Those of some samples, by their places."""
        shared = self.fractions is None or self.fractions.ndim == 1
        return replace(
            self,
            value=self.value[rows],
            curve=None if self.curve is None else self.curve[rows],
            fractions=self.fractions if shared or self.fractions is None else self.fractions[rows],
            extras={name: values[rows] for name, values in self.extras.items()},
        )

    def __eq__(self, other: object) -> bool:
        return equal(self, other)

    def __hash__(self) -> int:
        return hash((self.metric, len(self.value)))

    def _repr_html_(self) -> str:
        shown: str = _above("experiment.results", "scores_html")(self)
        return shown

    def __repr__(self) -> str:
        known = self.value[np.isfinite(self.value)]
        mean = f"mean {known.mean():.3g} of {len(known)} samples" if len(known) else "no sample has a value"
        missing = f", {len(self.value) - len(known)} without a value" if 0 < len(known) < len(self.value) else ""
        better = "higher" if self.higher_is_better else "lower"
        return f"Scores({self.metric}, {better} is better: {mean}{missing})"


class Metric(Protocol):
    """A frozen dataclass of parameters that measures an attribution; see `crossxai.evaluation`.

    Attributes
    ----------
    name : str, such as "deletion"; different for every metric
    higher_is_better : bool, the direction of its scores
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]

    def __call__(self, question: Question, attribution: Attribution) -> Scores: ...


class ExplainingMetric(Protocol):
    """A metric that has maps made again: of other inputs, another class, another model.

    It is called with the question as it was explained, the attribution, and the explainer that made it.

    Attributes
    ----------
    name : str, different for every metric
    higher_is_better : bool, the direction of its scores
    asks : str, "explainer", which tells it from a `Metric`
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    asks: ClassVar[str]

    def __call__(self, question: Question, attribution: Attribution, explainer: Explainer) -> Scores: ...

    def check(self, question: Question) -> None:
        """Raise `Unsupported` or `InvalidInput` for a question that it cannot measure, without running the model."""
        ...

    def explanations(self, question: Question, explainer: Explainer) -> int:
        """How many times each sample is explained again."""
        ...

    def passes(self, question: Question) -> int:
        """Forward passes per sample of the metric's own, beside those of the explanations."""
        ...


def needs_explainer(metric: Metric | ExplainingMetric) -> TypeGuard[ExplainingMetric]:
    """Whether a metric is called with the explainer, too."""
    return getattr(metric, "asks", "") == "explainer"


def apply_metric(
    metric: Metric | ExplainingMetric, question: Question, attribution: Attribution, explainer: Explainer
) -> Scores:
    """A metric's scores of a map, whether or not it needs the explainer."""
    if needs_explainer(metric):
        return metric(question, attribution, explainer)
    plain: Any = metric
    scores: Scores = plain(question, attribution)
    return scores
