"""The data set that needs no download: one stained photograph cut into patches, in PatchCamelyon's format.

`skimage.data.immunohistochemistry()`, a 512 × 512 photograph of colonic glands (brown: DAB, marking FHL2; blue: haematoxylin),
is cut into 96 × 96 patches. The centre 32 × 32 decides: 1 if at least 30 % of it is DAB-stained, 0 if at most 10 % is; others
are left out. The stain of the whole patch is kept as the mask. It is no diagnosis and no benchmark: the patches of a split
overlap heavily (`about.json`: "side_by_side"), and confidence intervals over them are too narrow.

Splits are vertical strips with no pixel in common. Both classes have one size and are spread as evenly as the picture allows
over ten levels of stain *around* the centre, which would give the label away; `about.json`, "surround_rule", says how far it
still does.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.color import rgb2hed
from skimage.data import immunohistochemistry
from skimage.filters import threshold_otsu

from crossxai.files.atomic import write_text
from crossxai.studies.generation import read_note, refuse_foreign
from crossxai.studies.pcam.reading import CENTRE, SIZE, PCam, Split, best_threshold, every_file, holds, write_split

Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

REGIONS: dict[Split, tuple[int, int, int, int]] = {
    "train": (0, 512, 0, 208),
    "test": (0, 512, 208, 352),
    "valid": (0, 512, 352, 512),
}
"""Top, bottom, left, right of each split's strip in the photograph, in pixels; bottom and right are not included."""

LEVELS = 10
VERSION = 1
"""Raised when the code below changes what is written, so that a set of the old code is built again."""


@dataclass(frozen=True)
class Recipe:
    """What decides the content of the set. stride: pixels between candidates. per_class: patches of each class."""

    stride: int = 2
    positive_from: float = 0.3
    negative_to: float = 0.1
    train_per_class: int = 800
    valid_per_class: int = 200
    test_per_class: int = 200

    def per_class(self, split: Split) -> int:
        return {"train": self.train_per_class, "valid": self.valid_per_class, "test": self.test_per_class}[split]


def build(root: str | os.PathLike[str], recipe: Recipe | None = None) -> Path:
    """Write the three splits and `about.json` into `root` unless they are there and whole; returns `root`.

    Raises `InvalidFile` if `root` holds PatchCamelyon files that this function did not write.
    """
    folder, recipe = Path(root), recipe or Recipe()
    image = immunohistochemistry()
    made_from = {
        "version": VERSION,
        "image_sha256": hashlib.sha256(image.tobytes()).hexdigest(),
        "recipe": asdict(recipe),
        "regions": {split: list(region) for split, region in REGIONS.items()},
    }
    about = read_note(folder / "about.json", __name__, "made_from")
    if about is None:
        refuse_foreign(folder, every_file())
    elif _whole(folder, about, made_from):
        return folder
    threshold, stained = stain(image)
    # Written first without figures, so that an interrupted build is recognised as ours, and as unfinished.
    _write_about(folder, {"made_from": made_from})
    about = {
        "source": "skimage.data.immunohistochemistry(), one 512 x 512 RGB photograph",
        "question": "is the centre 32 x 32 of the patch DAB-stained?",
        "stain_threshold": threshold,
        "made_from": made_from,
        "splits": {split: _write(folder, split, image, stained, recipe) for split in REGIONS},
    }
    _write_about(folder, about)
    return folder


def stain(image: npt.NDArray[np.uint8]) -> tuple[float, npt.NDArray[np.bool_]]:
    """(threshold, DAB-stained pixels): Otsu's threshold, from the training strip only, of rgb2hed's DAB channel."""
    dab = rgb2hed(image)[..., 2]
    top, bottom, left, right = REGIONS["train"]
    threshold = float(threshold_otsu(dab[top:bottom, left:right]))
    return threshold, dab > threshold


@dataclass(frozen=True)
class _Candidates:
    """Patches of one strip: corners (n,), stained fraction of the centre and of what surrounds it (n,)."""

    y: Ints
    x: Ints
    centre: Floats
    surround: Floats


def _candidates(split: Split, stained: npt.NDArray[np.bool_], stride: int) -> _Candidates:
    top, bottom, left, right = REGIONS[split]
    corners = np.arange(top, bottom - SIZE + 1, stride), np.arange(left, right - SIZE + 1, stride)
    y, x = (grid.ravel() for grid in np.meshgrid(*corners, indexing="ij"))
    sums = np.pad(stained.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def count(start: int, stop: int) -> Ints:
        block = sums[y + stop, x + stop] - sums[y + start, x + stop] - sums[y + stop, x + start]
        return np.asarray(block + sums[y + start, x + start])

    centre, whole = count(CENTRE.start, CENTRE.stop), count(0, SIZE)
    side = CENTRE.stop - CENTRE.start
    return _Candidates(y, x, centre / side**2, (whole - centre) / (SIZE**2 - side**2))


def _write(
    folder: Path, split: Split, image: npt.NDArray[np.uint8], stained: npt.NDArray[np.bool_], recipe: Recipe
) -> dict[str, Any]:
    """Choose and write one split; returns its figures."""
    candidates = _candidates(split, stained, recipe.stride)
    positive, negative = candidates.centre >= recipe.positive_from, candidates.centre <= recipe.negative_to
    per_class = min(recipe.per_class(split), int(positive.sum()), int(negative.sum()))
    chosen = np.stack([_spread(candidates, np.flatnonzero(kind), per_class) for kind in (negative, positive)], axis=1)
    rows = chosen.ravel()  # the classes alternate, so the first rows of a split are a balanced sample
    labels = np.tile([0, 1], per_class)
    corners = list(zip(candidates.y[rows], candidates.x[rows], strict=True))
    images = np.stack([image[y : y + SIZE, x : x + SIZE] for y, x in corners])
    masks = np.stack([stained[y : y + SIZE, x : x + SIZE] for y, x in corners])
    write_split(folder, split, images, labels, masks)
    top, bottom, left, right = REGIONS[split]
    return {
        "patches": len(rows),
        "per_class": [per_class, per_class],
        "candidates": len(candidates.y),
        "left_out_as_ambiguous": int((~positive & ~negative).sum()),
        "side_by_side": ((bottom - top) // SIZE) * ((right - left) // SIZE),
        "corners": [[int(y), int(x)] for y, x in corners],
        "surround_rule": {
            "all_candidates": best_threshold(candidates.surround[positive | negative], positive[positive | negative]),
            "chosen": best_threshold(candidates.surround[rows], labels),
        },
        "fingerprint": PCam(folder, split).fingerprint(),
    }


def _spread(candidates: _Candidates, rows: Ints, n: int) -> Ints:
    """n of the rows, as evenly as possible over the levels of surrounding stain, in an order without pattern."""
    # Sorting by a checksum of the place is a shuffle that no library's version can change.
    keys = [zlib.crc32(f"{y},{x}".encode()) for y, x in zip(candidates.y[rows], candidates.x[rows], strict=True)]
    rows = rows[np.argsort(keys, kind="stable")]
    level = np.minimum((candidates.surround[rows] * LEVELS).astype(int), LEVELS - 1)
    rank = np.empty(len(rows), dtype=int)  # 0 for the first of its level, 1 for the second …
    for value in np.unique(level):
        rank[level == value] = np.arange((level == value).sum())
    return rows[np.sort(np.argsort(rank, kind="stable")[:n])]


def _write_about(folder: Path, about: dict[str, Any]) -> None:
    write_text(folder / "about.json", json.dumps(about, indent=1) + "\n")


def _whole(folder: Path, about: dict[str, Any], made_from: dict[str, Any]) -> bool:
    if about["made_from"] != made_from or "splits" not in about:
        return False
    return all(holds(folder, split, about["splits"][split]["fingerprint"]) for split in REGIONS)
