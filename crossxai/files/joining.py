"""Files of shards joined to those of one run, a block of samples at a time, so that memory does not grow with their number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.errors import InvalidFile
from crossxai.files.opening import reading, write_strings, writing
from crossxai.files.records import Result
from crossxai.files.results import write_about
from crossxai.files.samples import KEPT

BLOCK = 2**24
"""Bytes that are read at once, at least one sample."""
SAMPLES = ("ids", "labels", "groups", "inputs", "masks", "truth", "spaces")
PREDICTIONS = ("target", "outputs", "score", "origin")


@dataclass(frozen=True)
class Part:
    """A shard's folder, and how many samples it holds."""

    folder: Path
    n: int


def join_samples(out: Path, parts: Sequence[Part]) -> None:
    """Write samples.h5 of the samples of all parts."""
    with _joining(out, "samples", "samples.h5", parts, SAMPLES) as (file, files):
        if "kept" in file:
            del file["kept"]
            before = np.cumsum([0, *(part.n for part in parts)])
            file["kept"] = np.concatenate(
                [start + own["kept"][()] for start, own in zip(before, files(), strict=False)]
            )
        for name in file.get("spaces", {}):
            each = [json.loads(own["spaces"][name].attrs["orientation"]) for own in files()]
            file["spaces"][name].attrs["orientation"] = json.dumps([letters for some in each for letters in some])


def join_predictions(out: Path, model: str, parts: Sequence[Part]) -> None:
    """Write a model's predictions of the samples of all parts."""
    with _joining(out, "predictions", f"predictions/{model}.h5", parts, PREDICTIONS) as (file, files):
        every = [json.loads(own.attrs["info"]) for own in files()]
        if "classes" in every[0]:
            every[0]["classes"] = [number for info in every for number in info["classes"]]
        file.attrs["info"] = json.dumps(every[0])


def join_result(out: Path, parts: Sequence[Part], result: Result, kept: Sequence[int]) -> None:
    """Write an explainer's file: its maps, of which the parts have so many, from their files, all else from the result."""
    name = f"explanations/{result.model}/{result.label}.h5"
    parts = [Part(part.folder, n) for part, n in zip(parts, kept, strict=True)]
    with _joining(out, "explanation", name, parts, ("values", "scales"), copied=result.status == "ok") as (file, _):
        if result.status != "ok":
            file.attrs["modalities"] = "[]"
        write_strings(file, "ids", result.ids)
        write_about(file, result)


@contextmanager
def _joining(
    out: Path, kind: str, name: str, parts: Sequence[Part], per_sample: Sequence[str], copied: bool = True
) -> Iterator[tuple[Any, Callable[[], Iterator[Any]]]]:
    """A new file with what the parts' files of this name hold per sample, and the first one's attributes; and a function that
    opens those, one after the other. What else the first file holds is copied, but of explanations."""
    n = sum(part.n for part in parts)

    def files() -> Iterator[Any]:
        for part in parts:
            with reading(part.folder / name, kind) as file:
                yield file

    kept = [
        len(own["kept"]) if kind == "samples" and "kept" in own else part.n
        for part, own in zip(parts, files(), strict=True)
    ]
    with writing(out / name, kind) as file:
        before = before_kept = 0
        for part, own, own_kept in zip(parts, files(), kept, strict=True):
            if before == 0:
                file.attrs.update(own.attrs)
                if kind != "explanation":
                    _copy_other(file, own, per_sample)
            for place in [p for p in data_sets(own) if copied and p.partition("/")[0] in per_sample]:
                data = own[place]
                some = KEPT in data.attrs
                rows, start, total = (own_kept, before_kept, sum(kept)) if some else (part.n, before, n)
                if len(data) != rows:
                    raise InvalidFile(f"{part.folder / name}: {place} holds {len(data)} rows, the shard {rows} samples")
                if place == "outputs" and "origin/outputs" in own and data == own["origin/outputs"]:
                    if before == 0:
                        file[place] = prepared(file, "origin/outputs", own["origin/outputs"], n)
                    continue
                fill(prepared(file, place, data, total), data, start, file.disk.check)
            before, before_kept = before + part.n, before_kept + own_kept
        yield file, files


def data_sets(file: Any) -> list[str]:
    """The paths of all data sets, shared ones under each of their names."""
    places: list[str] = []

    def walk(group: Any, start: str) -> None:
        for name, item in group.items():
            if hasattr(item, "shape"):
                places.append(start + name)
            else:
                walk(item, f"{start}{name}/")

    walk(file, "")
    return places


def _copy_other(file: Any, own: Any, per_sample: Sequence[str]) -> None:
    """What is not per sample, and the groups with their attributes."""
    for name, item in own.items():
        if name not in per_sample:
            own.copy(name, file)
        elif not hasattr(item, "shape"):
            _copy_groups(file.create_group(name), item)


def _copy_groups(group: Any, own: Any) -> None:
    group.attrs.update(own.attrs)
    for name, item in own.items():
        if not hasattr(item, "shape"):
            _copy_groups(group.create_group(name), item)


def prepared(file: Any, place: str, like: Any, n: int) -> Any:
    """The data set of all samples, made like that of a part where it is not there yet."""
    if place not in file:
        shape = (n, *like.shape[1:])
        alone = like.chunks is not None and like.chunks[0] == 1
        chunks = like.chunks if alone else True if like.chunks else None
        stored = {"compression": like.compression, "shuffle": like.shuffle or None, "chunks": chunks}
        file.create_dataset(place, shape, like.dtype, **(stored if n else {})).attrs.update(like.attrs)
    data = file[place]
    if data.shape[1:] != like.shape[1:]:
        raise InvalidFile(
            f"{place} of {like.file.filename} has shape {like.shape[1:]} per sample, of other shards {data.shape[1:]}"
        )
    return data


def fill(data: Any, own: Any, before: int, check: Callable[[], None], rows: slice | None = None) -> None:
    """Copy a part's rows, or some of them, behind those of the parts before it. check: raises where the disk is full."""
    first, end = (0, len(own)) if rows is None else (rows.start, rows.stop)
    step = max(1, BLOCK // max(1, own.dtype.itemsize * int(np.prod(own.shape[1:]))))
    for start in range(first, end, step):
        block = own[start : min(start + step, end)]
        data[before + start - first : before + start - first + len(block)] = block
        check()
