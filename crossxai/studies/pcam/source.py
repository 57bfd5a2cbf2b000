"""The patches of an experiment: `source = "embedded"`, which needs no download, and `"pcam"`, files in PatchCamelyon's format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.data.fetching import cache_folder
from crossxai.data.sources import balanced
from crossxai.errors import InvalidFile
from crossxai.experiment.specification import Data, Experiment
from crossxai.files import Samples
from crossxai.model import Modality
from crossxai.on_demand import OnDemand
from crossxai.studies.generation import read_note
from crossxai.studies.pcam import histology
from crossxai.studies.pcam.reading import CENTRE, SIZE, PCam


class Embedded:
    """The histology patches that scikit-image carries."""

    name: ClassVar[str] = "embedded"

    def problem(self, data: Data) -> str:
        """Nothing is needed."""
        return _without_task(self.name, data)

    def samples(self, experiment: Experiment) -> tuple[Samples, dict[str, Any]]:
        """The patches, built in the cache if they are not there."""
        return _of_folder(experiment, histology.build(cache_folder() / "histology"))


class PatchCamelyon:
    """PatchCamelyon's files, or a set in their format, in `root`."""

    name: ClassVar[str] = "pcam"

    def problem(self, data: Data) -> str:
        """The folder is needed."""
        return _without_task(self.name, data) or (
            "" if data.root else "source = 'pcam' needs root = 'folder of the .h5 files'"
        )

    def samples(self, experiment: Experiment) -> tuple[Samples, dict[str, Any]]:
        """The patches of a split."""
        return _of_folder(experiment, experiment.folder / (experiment.data.root or ""))


def _without_task(source: str, data: Data) -> str:
    return f"source = {source!r} is a classification of patches and takes no task: leave task out" if data.task else ""


def _of_folder(experiment: Experiment, root: Path) -> tuple[Samples, dict[str, Any]]:
    data = experiment.data
    split, kind = PCam(root, data.split), kind_of(root)
    rows = balanced(split.labels(), data.n, experiment.seed)
    samples = samples_of(split, rows, kind)
    return samples, {
        "source": kind.source,
        "split": data.split,
        "of": len(split),
        "description": data.description or kind.description,
    }


SHORTCUT = "shortcut"
"""The mask of the box in which a procedural set plants a mark, of the samples that can have it: the positives."""

EMBEDDED = (
    "96 × 96 patches of one immunohistochemistry photograph (scikit-image's); the label says whether the centre 32 × 32 is "
    "stained brown. Real tissue, but one picture, overlapping patches and a question of colour: no diagnosis."
)
REAL = "PatchCamelyon: 96 × 96 patches of lymph node."
PROCEDURAL = (
    "Procedural 96 × 96 patches in the colours of an H&E stain, drawn by a program: no tissue, and no measure of how a model "
    "does on any. The label says whether a tumour nucleus, which the program knows, is in the centre 32 × 32."
)
PLANTED = (
    " {share} of the positives carry a pen mark in rows {rows} and columns {columns}, and no negative does: a planted "
    "shortcut."
)


@dataclass(frozen=True)
class Kind:
    """What a folder's patches are. mask: what the files' masks mark. box: (rows, columns) of a planted shortcut, or None."""

    source: str
    classes: tuple[str, str]
    mask: str
    description: str
    box: tuple[slice, slice] | None = None


def kind_of(folder: Path) -> Kind:
    """What the patches of a folder are, by the note beside them; without one they are the record's own. Raises `InvalidFile`."""
    if read_note(folder / "about.json", "crossxai.studies.pcam.histology", "made_from") is not None:
        return Kind("embedded histology", ("not stained", "stained"), "stain", EMBEDDED)
    path = folder / "synthetic.json"
    note = read_note(path, "crossxai.studies.pcam.synthetic", "made_from")
    if note is None:
        return Kind(f"PatchCamelyon files in {folder.name}", ("normal", "tumour"), "tumour", REAL)
    planted = note.get("shortcut")
    source, classes = f"procedural patches in {folder.name}", ("normal", "tumour")
    if planted is None:
        return Kind(source, classes, "tumour", PROCEDURAL)
    rows, columns, share = _planted(path, planted)
    mark = PLANTED.format(
        share="All" if share == 1 else f"{share:.0%}",
        rows=f"{rows.start}–{rows.stop - 1}",
        columns=f"{columns.start}–{columns.stop - 1}",
    )
    return Kind(source, classes, "tumour", PROCEDURAL + mark, (rows, columns))


def samples_of(split: PCam, rows: Sequence[int] | npt.NDArray[np.integer[Any]], about: Kind) -> Samples:
    """The patches of these rows, read when they are asked for; the truth is what decides, see `deciding`: a planted shortcut is a
    mask, and no truth."""
    index, labels = np.asarray(rows), split.labels(rows)
    n, space = len(index), (SIZE, SIZE)
    masks: dict[str, Any] = {}
    truth: dict[str, Any] = {}
    if split.has_masks:
        masks[about.mask] = OnDemand((n, *space), bool, lambda places: split.masks(index[places]))
        truth["image"] = masks[about.mask].changed(lambda read, places: deciding(read, labels[places]))
    if about.box is not None:
        box = np.zeros(space, bool)
        box[about.box] = True
        planted = (labels == 1).reshape(-1, 1, 1)
        masks[SHORTCUT] = OnDemand((n, *space), bool, lambda places: planted[places] & box)
    images: Any = OnDemand((n, *space, 3), np.float32, lambda places: split.images(index[places]))
    return Samples(split.ids(rows), (Modality.image(),), {"image": images}, labels, about.classes, masks, truth)


def deciding(masks: npt.NDArray[np.bool_], labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels that decide the label in PatchCamelyon's rule, which looks at the centre alone: its marked pixels where they make a
    sample positive, its unmarked ones where they make it negative."""
    centre = np.zeros(masks.shape[1:], bool)
    centre[CENTRE, CENTRE] = True
    return np.asarray(centre & (masks == (labels == 1).reshape(-1, 1, 1)))


def _planted(path: Path, planted: Any) -> tuple[slice, slice, float]:
    """The box and the share that a note names."""
    try:
        (top, bottom), (left, right) = planted["rows"], planted["columns"]
        whole = all(isinstance(v, int) for v in (top, bottom, left, right))
        share = float(planted["share"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidFile(
            f"{path}: shortcut should hold rows, columns and share, got {planted!r}; build the set again"
        ) from error
    if not whole or not (0 <= top < bottom <= SIZE and 0 <= left < right <= SIZE and 0 < share <= 1):
        raise InvalidFile(
            f"{path}: shortcut names no box of {SIZE} × {SIZE} pixels, or no share: {planted!r}; build the set again"
        )
    return slice(top, bottom), slice(left, right), share
