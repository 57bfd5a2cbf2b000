"""A procedural set in PatchCamelyon's format, streamed: H&E-like patches whose tumour nuclei are known; see docs/pcam.md."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
from rich.console import Console

from crossxai.errors import InvalidInput
from crossxai.files.atomic import replacing, sweep, write_text
from crossxai.files.opening import new_hdf5
from crossxai.studies.generation import Pool, check_whole, pool, progress_bars, read_note, refuse_foreign
from crossxai.studies.pcam.reading import (
    CENTRE,
    ROWS,
    SIZE,
    Part,
    PCam,
    Split,
    best_threshold,
    every_file,
    file_name,
    holds,
)
from crossxai.studies.pcam.synthetic_patches import Patches, Shortcut, generate

__all__ = ["Patches", "Shortcut", "generate", "write"]

NOTE = "synthetic.json"
VERSION = 1
"""Raised when this code changes what is drawn, so that a set of the old code is made again."""

CHUNK = 64
"""Patches that a process makes at a time: 2.4 MB, about 0.1 s."""

MASK_ROWS = 16
"""Masks are nearly empty and compressed, a few rows at a time so that one row is still read fast."""


def write(
    out: str | os.PathLike[str],
    n: int = 2000,
    seed: int = 0,
    shortcut: Shortcut | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write n patches into a folder, 80 % to train, 10 % to validate, 10 % to test, with `synthetic.json`; returns the folder.

    Patches follow each other: train has the numbers from 0 on, then valid, then test (see `generate`). Splits that are there,
    whole and of these settings, are kept; of other settings, written anew. workers: processes, None for the number of cores;
    they never change a byte; more than one need `if __name__ == "__main__":` in a script. Raises `InvalidInput`, and
    `InvalidFile` if the folder holds PatchCamelyon files that this function did not write.
    """
    ranges = split_ranges(n)
    check_whole("seed", seed, 0)
    folder = Path(out)
    note = read_note(folder / NOTE, "crossxai.studies.pcam.synthetic", "made_from")
    refuse_foreign(folder, every_file(), _ours)
    planted = json.loads(json.dumps(shortcut and asdict(shortcut)))  # as the note will have it, lists for tuples
    made_from = {"version": VERSION, "n": int(n), "seed": int(seed), "shortcut": planted}
    written: dict[str, Any] = {}
    if note is not None and note["made_from"] == made_from:
        noted = note.get("splits", {})
        written = {
            split: noted[split]
            for split in ranges
            if split in noted and holds(folder, split, noted[split]["fingerprint"])
        }
    console = Console(stderr=True, quiet=not progress)
    _sweep(folder)
    if len(written) == len(ranges):
        console.print(f"{folder} holds this data set already, whole: nothing to do.", highlight=False, soft_wrap=True)
        return folder
    # Before the new note, which says where a mark is: no old file may ever lie beside it, whenever this process is killed.
    for split in ranges.keys() - written.keys():
        for path in (folder / file_name(split, part) for part in ROWS):
            if path.exists():
                path.unlink()
    _write_note(folder, made_from, written)
    with pool(workers, -(-n // CHUNK)) as processes, progress_bars(console) as bars:
        for split, numbers in ranges.items():
            if split in written:
                continue
            bar = bars.add_task(split, total=len(numbers))
            chunks = _drawn(processes, numbers, seed, shortcut, partial(bars.advance, bar))
            written[split] = _write_split(folder, split, len(numbers), chunks)
            _write_note(folder, made_from, written)
    return folder


def split_ranges(n: int) -> dict[Split, range]:
    """The numbers of each split's patches; all even in length, so that classes are balanced. Raises `InvalidInput`."""
    check_whole("n", n, 20)
    if n % 2:
        raise InvalidInput(f"n is {n}; write an even number, as the classes are of one size")
    tenth = 2 * round(n / 20)
    train = n - 2 * tenth
    return {"train": range(train), "valid": range(train, train + tenth), "test": range(train + tenth, n)}


def _write_split(folder: Path, split: Split, n: int, chunks: Iterable[Patches]) -> dict[str, Any]:
    """Write one split's three files; returns its figures."""
    labels, surround = np.empty(n, np.uint8), np.empty(n, np.uint16)  # all that grows with n: 3 bytes a patch
    rows = (min(n, MASK_ROWS), *ROWS["mask"])
    layout: dict[Part, dict[str, Any]] = {"x": {}, "y": {}, "mask": {"chunks": rows, "compression": 1}}
    with ExitStack() as stack:
        data = {}
        for part in ROWS:
            temporary = stack.enter_context(replacing(folder / file_name(split, part)))
            file = stack.enter_context(new_hdf5(temporary))
            file.attrs["made_by"] = NOTE
            data[part] = file.create_dataset(part, (n, *ROWS[part]), np.uint8, **layout[part])
        start = 0
        for patches in chunks:
            part_of = slice(start, start := start + len(patches))
            data["x"][part_of] = patches.images
            data["y"][part_of] = patches.labels.reshape(-1, 1, 1, 1).astype(np.uint8)
            data["mask"][part_of] = patches.masks[..., None].astype(np.uint8)
            labels[part_of] = patches.labels
            inside = patches.masks[:, CENTRE, CENTRE].sum(axis=(1, 2))
            surround[part_of] = patches.masks.reshape(-1, SIZE * SIZE).sum(axis=1) - inside
    return {
        "patches": n,
        "per_class": np.bincount(labels, minlength=2).tolist(),
        "surround_rule": best_threshold(surround, labels),  # by tumour pixels outside the centre
        "fingerprint": PCam(folder, split).fingerprint(),
    }


def _sweep(folder: Path) -> None:
    """Remove what killed calls left half written."""
    sweep(folder / NOTE)
    for split in get_args(Split):
        for part in ROWS:
            sweep(folder / file_name(split, part))


def _ours(path: Path) -> bool:
    """Whether this package wrote the file."""
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("made_by") == NOTE)
    except OSError:
        return False


def _write_note(folder: Path, made_from: dict[str, Any], splits: dict[str, Any]) -> None:
    ordered = {split: splits[split] for split in get_args(Split) if split in splits}  # in whatever order they were made
    note = {"made_from": made_from, "shortcut": made_from["shortcut"], "splits": ordered}
    write_text(folder / NOTE, json.dumps(note, indent=1) + "\n")


def _drawn(
    processes: Pool, numbers: range, seed: int, shortcut: Shortcut | None, done: Callable[[int], None]
) -> Iterator[Patches]:
    """The patches of these numbers, in order, by chunks; `done` hears how many have been dealt with."""
    jobs = ((min(CHUNK, numbers.stop - first), seed, first, shortcut) for first in numbers[::CHUNK])
    for patches in processes.map(generate, jobs):
        yield patches
        done(len(patches))
