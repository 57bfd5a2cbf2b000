"""What a folder in PatchCamelyon's format holds, and what is wrong with it: every row is read, a thousand at a time."""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from rich.console import Console
from rich.progress import Progress

from crossxai.data.fetching import BLOCK, length
from crossxai.errors import InvalidFile
from crossxai.studies.pcam.download import RECORD, SPLITS, Archive, Record, md5
from crossxai.studies.pcam.reading import CHUNK, ROWS, Part, Split, check_labels, count_rows, file_name
from crossxai.studies.pcam.synthetic import NOTE


@dataclass
class FileState:
    """One file of the format. rows, size in bytes and labels (how many 0, how many 1) are None where nothing is known.

    state: "whole", "packed" (an archive only), "damaged" or "missing". archive: what the `.h5.gz` is, "" if there is none.
    """

    split: Split
    part: Part
    state: str = "missing"
    rows: int | None = None
    size: int | None = None
    labels: tuple[int, int] | None = None
    archive: str = ""


@dataclass
class Findings:
    """Nine files (three splits of x, y, mask), sentences worth knowing, and a sentence per problem."""

    files: list[FileState] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def split(self, split: Split) -> dict[Part, FileState]:
        """Its files by part."""
        return {file.part: file for file in self.files if file.split == split}


def inspect_folder(root: str | os.PathLike[str], table: Record = RECORD, progress: bool = True) -> Findings:
    """Read everything in a folder, memory independent of its size, and hold it against the format and the record.

    table: the archives as published. A missing split is a note; half a split, and a folder without any, are problems.
    """
    folder = Path(root)
    findings = Findings()
    published = {(archive.split, archive.part): archive for archive in table}
    with Progress(console=Console(stderr=True), disable=not progress, transient=True) as bars:
        for split in SPLITS:
            for part in ROWS:
                findings.files.append(file := FileState(split, part))
                _examine(folder, file, published.get((split, part)), findings, bars)
    if all(file.state == "missing" for file in findings.files):
        findings.problems.append(_nothing(folder))
        return findings
    for split in SPLITS:
        _together(findings, split)
    _name_the_set(findings, published)
    return findings


def _nothing(folder: Path) -> str:
    """Why there is no file of the format in a folder, and what to do."""
    if folder.exists() and not folder.is_dir():
        return f"{folder}: is a file; name the folder that holds the files"
    if (folder / NOTE).is_file():
        return f"{folder}: there is {NOTE} alone: give the command that was drawing this set again"
    what = "there is no file of this format" if folder.is_dir() else "there is no such folder"
    return f"{folder}: {what}; fetch the published set with: crossxai data pcam download --out {folder}"


def _examine(folder: Path, file: FileState, archive: Archive | None, findings: Findings, bars: Progress) -> None:
    path = folder / file_name(file.split, file.part)
    packed = path.with_name(path.name + ".gz")
    unfinished = length(path.with_name(packed.name + ".part"))
    if unfinished and archive is not None:
        findings.notes.append(
            f"{packed.name}: {unfinished} of {archive.size} bytes have been fetched; go on with: crossxai data pcam download "
            f"--out {folder} --splits {file.split}"
        )
    if path.is_file():
        file.size = length(path)
        try:
            file.rows = count_rows(path, file.part)
            file.labels = _read(path, file.part, file.rows, bars)
            file.state = "whole"
        except InvalidFile as error:
            file.state = "damaged"
            findings.problems.append(str(error))
    if packed.is_file():
        _examine_archive(packed, file, archive, findings)


def _read(path: Path, part: Part, rows: int, bars: Progress) -> tuple[int, int] | None:
    """Read every row; of the file of labels, how many 0 and how many 1 there are."""
    counts = np.zeros(256, dtype=np.int64)
    task = bars.add_task(path.name, total=rows)
    with h5py.File(path, "r") as handle:
        for start in range(0, rows, CHUNK):
            try:
                values = np.asarray(handle[part][start : start + CHUNK])
            except OSError as error:
                last = min(start + CHUNK, rows) - 1
                raise InvalidFile(f"{path}: rows {start} … {last} cannot be read ({error}); fetch it again") from error
            bars.update(task, advance=len(values))
            if part == "y":
                counts += np.bincount(values.ravel(), minlength=256)
    bars.remove_task(task)
    if part != "y":
        return None
    check_labels(path, np.flatnonzero(counts))
    return int(counts[0]), int(counts[1])


def _examine_archive(packed: Path, file: FileState, archive: Archive | None, findings: Findings) -> None:
    """The published bytes, those of another set, or a damaged archive."""
    alone = file.state == "missing"
    if alone:
        file.state, file.size = "packed", length(packed)
    if archive is not None and length(packed) == archive.size and md5(packed) == archive.md5:
        file.archive = "as published"
        file.rows = archive.rows if alone else file.rows
        return
    damage = _damage(packed)
    file.archive = "damaged" if damage else "another set's"
    if damage:
        file.state = "damaged" if alone else file.state
        findings.problems.append(f"{packed}: not a whole gzip file ({damage}); fetch it again, or delete it")
    elif archive is not None and file.rows == archive.rows:
        findings.problems.append(
            f"{packed}: is not the published archive: md5 expected {archive.md5}, found {md5(packed)}, but there are as many "
            "rows beside it as published; delete whichever is wrong"
        )
    elif alone:
        findings.notes.append(f"{packed.name}: whole, of another set; its rows are looked at once it is unpacked")


def _damage(packed: Path) -> str:
    """Why an archive cannot be unpacked, "" if it can: unpacked to nowhere."""
    try:
        with gzip.open(packed, "rb") as stream:
            while stream.read(BLOCK):
                pass
    except (EOFError, OSError, zlib.error) as error:
        return str(error)
    return ""


def _together(findings: Findings, split: Split) -> None:
    """The files of one split must be there together, and as long as each other."""
    files = findings.split(split)
    there = {part: file for part, file in files.items() if file.state != "missing"}
    if not there:
        findings.notes.append(f"There is no {split} split.")
        return
    for part in ("x", "y"):
        if part not in there:
            names = ", ".join(file_name(split, other) for other in there)
            findings.problems.append(
                f"{split}: {file_name(split, part)} is missing beside {names}; fetch or write it again"
            )
    lengths = {part: file.rows for part, file in there.items() if file.rows is not None}
    if len(set(lengths.values())) > 1:
        lengths_in_words = ", ".join(f"{rows} rows in {file_name(split, part)}" for part, rows in lengths.items())
        findings.problems.append(f"{split}: {lengths_in_words}: they must be equal; fetch or write the split again")
    labels = files["y"].labels
    if labels is not None and 0 in labels:
        findings.notes.append(f"{split}: only one class is there ({labels[0]} × 0, {labels[1]} × 1): it has no AUC.")
    if "mask" not in there:
        findings.notes.append(f"{split}: no masks.")


def _name_the_set(findings: Findings, published: dict[tuple[Split, Part], Archive]) -> None:
    there = [file for file in findings.files if file.state != "missing" and (file.split, file.part) in published]
    fits = [file for file in there if file.rows == published[file.split, file.part].rows]
    if fits != there:
        findings.notes.append(
            "Row counts are not those of the published set: a set of another making, or a part of one."
        )
    elif there and not findings.problems:
        splits = ", ".join(dict.fromkeys(file.split for file in there))
        findings.notes.append(
            f"Row counts are those of the published set ({splits}). What its bytes are only an archive can tell "
            "(crossxai data pcam download verifies each; --keep-archives leaves them to be checked again)."
        )
