"""What PatchCamelyon's publication says of its files: the one table that `download` and `check` hold bytes against.

Source: Zenodo record 2546921 (Veeling et al., 2018, CC0), https://zenodo.org/records/2546921.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from crossxai.errors import InvalidInput, UnknownName
from crossxai.studies.pcam.reading import ROWS, Part, Split, file_name

SPLITS: tuple[Split, ...] = get_args(Split)
URL = "https://zenodo.org/records/2546921/files/{name}?download=1"


@dataclass(frozen=True)
class Archive:
    """One gzipped HDF5 file as published. size: bytes, md5: hexadecimal, both of the archive; rows: patches inside."""

    split: Split
    part: Part
    size: int
    md5: str
    rows: int

    @property
    def name(self) -> str:
        return self.unpacked + ".gz"

    @property
    def unpacked(self) -> str:
        """The name of the HDF5 file inside."""
        return file_name(self.split, self.part)

    @property
    def unpacked_size(self) -> int:
        """Bytes that the HDF5 file has at most, about: its arrays, uncompressed, and HDF5's own book-keeping."""
        return self.rows * math.prod(ROWS[self.part]) + (1 << 16)


Record = tuple[Archive, ...]

# md5: those that the Zenodo record lists (quoted in github.com/tensorflow/datasets/issues/1551) and torchvision.datasets.PCAM
# expects. The table in the README of github.com/basveeling/pcam has valid and test exchanged (its issues 1 and 4): not used.
# size: TensorFlow Datasets, url_checksums/patch_camelyon.txt, measured on downloads from this record.
# rows: README of github.com/basveeling/pcam, "Numbers": 2^18 for training, 2^15 each for validation and test.
RECORD: Record = (
    Archive("train", "x", 6_421_353_462, "1571f514728f59376b705fc836ff4b63", 262_144),
    Archive("train", "y", 21_378, "35c2d7259d906cfc8143347bb8e05be7", 262_144),
    Archive("valid", "x", 805_965_320, "d5b63470df7cfa627aeec8b9dc0c066e", 32_768),
    Archive("valid", "y", 3_038, "2b85f58b927af9964a4c15b8f7e8f179", 32_768),
    Archive("test", "x", 800_875_929, "d8c2d60d490dbd479f8199bdfa0cf6ec", 32_768),
    Archive("test", "y", 3_040, "60a7035772fbdb7f34eb86d4420cf66a", 32_768),
)


def chosen(splits: Iterable[str], table: Record) -> Record:
    """The archives of these splits, in the table's order; an unknown or no split is an error."""
    names = list(splits)
    for name in names:
        if name not in SPLITS:
            raise UnknownName("split", name, SPLITS)
    if not names:
        raise InvalidInput(f"no split is named; write one or more of {', '.join(SPLITS)}")
    return tuple(archive for archive in table if archive.split in names)
