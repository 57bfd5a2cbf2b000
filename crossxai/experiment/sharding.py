"""Shards: the part of a run's samples that one command explains and evaluates, in a folder of its own."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.attribution import Metric
from crossxai.errors import InvalidInput
from crossxai.evaluation.curves.deletion import Curve
from crossxai.files import Samples
from crossxai.files.atomic import replacing
from crossxai.files.remote import fetched, shown
from crossxai.files.tasks import PLAN, digest
from crossxai.model import Array
from crossxai.on_demand import PART

FOLDER = "shards"
ROUNDING = 1e-3
"""Shares of how far outputs vary by which they may differ between the processes of two shards."""
WRITE = "write the number of the shard and how many there are, 1/4 to 4/4 of four"


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of the samples, by its number from 1: neighbours, whose numbers differ by at most one between parts.

    command: what makes it, without `--shard`, for those who have to make another one; "" where nobody knows.
    """

    number: int
    count: int
    command: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise InvalidInput(f"there is no shard {self}: {WRITE}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def read(cls, written: str, command: str = "") -> Shard:
        """The shard that `3/64` names; raises `InvalidInput`."""
        if not re.fullmatch(r"\d{1,9}/\d{1,9}", written):
            raise InvalidInput(f"--shard {written}: {WRITE}")
        number, count = map(int, written.split("/"))
        return cls(number, count, command)

    def folder(self, out: Path) -> Path:
        """Where its files go, in the folder of the run."""
        return out / FOLDER / f"{self.number}-of-{self.count}"

    def rows(self, n: int) -> slice:
        """Its samples among n; the first shards have one more where the numbers do not divide. Raises `InvalidInput`."""
        if self.count > n:
            raise InvalidInput(
                f"shard {self} of {n} samples would leave shards without a sample: at most {n} shards, --shard 1/{n}"
            )
        size, more = divmod(n, self.count)
        first = (self.number - 1) * size + min(self.number - 1, more)
        return slice(first, first + size + (self.number <= more))


def least(samples: Samples) -> int:
    """How many parts samples are divided into at least, so that memory holds each, or of one sample each where these are large; 1
    of samples that it holds already."""
    return max(1, min(math.ceil(samples.on_demand / PART), len(samples.ids)))


def done(out: Path) -> str:
    """`3 of 83 parts are done`; "" where none is begun."""
    begun = present(out)
    count = max((count for count, _ in begun), default=0)
    return f"{sum(map(finished, begun.values()))} of {count} parts are done" if count else ""


def check_metrics(metrics: Iterable[tuple[Any, Metric]]) -> None:
    """Raise `InvalidInput` for metrics that cannot be measured in parts."""
    for spec, metric in metrics:
        if isinstance(metric, Curve) and getattr(metric.rule, "precision", None) is not None:
            raise InvalidInput(
                f"metric {spec.shown}: with a precision, the spread of all samples decides how many points each one takes, and a "
                "shard has some of them: write points alone"
            )
        if getattr(metric, "contrasts", False) and not getattr(metric, "sees_whole", False):
            raise InvalidInput(
                f"metric {spec.shown} compares samples with each other, of which a shard has some: run without shards, or let it "
                "look at question.whole and say sees_whole: ClassVar = True"
            )


def about(shard: Shard, rows: slice, n: int, outputs: dict[str, list[float]]) -> dict[str, Any]:
    """The manifest's entry of a shard. outputs: by model, its `summary` on all samples."""
    return {
        "number": shard.number,
        "of": shard.count,
        "first": rows.start,
        "end": rows.stop,
        "samples": n,
        "outputs": outputs,
        "command": shard.command,
    }


def summary(outputs: Array) -> list[float]:
    """Mean, standard deviation, smallest and largest of a model's outputs, by which two processes tell whether theirs agree."""
    values = [outputs.mean(dtype=np.float64), outputs.std(dtype=np.float64), outputs.min(), outputs.max()]
    return [float(value) for value in values]


def present(out: Path) -> dict[tuple[int, int], Path]:
    """The folders of shards in a run's folder, by (count, number)."""
    fetched(out, f"{FOLDER}/*/manifest.json", f"{FOLDER}/*/{PLAN}")
    named = ((re.fullmatch(r"(\d+)-of-(\d+)", path.name), path) for path in (out / FOLDER).glob("*-of-*"))
    return dict(sorted(((int(name[2]), int(name[1])), path) for name, path in named if name and path.is_dir()))


def finished(folder: Path) -> bool:
    """Whether a shard has all its files."""
    return (folder / "manifest.json").is_file()


def next_step(shard: Shard, out: Path) -> str:
    """What to do after a shard, in words."""
    done = sum(count == shard.count and finished(path) for (count, _), path in present(out).items())
    if done == shard.count:
        return f"Shard {shard} is done, and so are all others: crossxai merge {shown(out)}"
    return f"Shard {shard} is done, {done} of {shard.count}. When all are: crossxai merge {shown(out)}"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished shard; None where there is none, or where it is none."""
    manifest = any_manifest(folder)
    return manifest if manifest is not None and isinstance(manifest.get("shard"), dict) else None


def any_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished run, or a shard of one; None where there is none, or where it cannot be read."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def agree(one: Array, other: Array) -> bool:
    """Whether outputs are those of one model, as two processes, or two kinds of machines, give them."""
    return one.shape == other.shape and bool(
        np.allclose(one, other, rtol=ROUNDING, atol=ROUNDING * float(np.ptp(one)), equal_nan=True)
    )


def outputs_once(folder: Path, key: dict[str, Any], own: slice, ask: Callable[[slice | None], Array]) -> Array:
    """A model's outputs on all samples, which the first shard leaves for the others in the folder of shards. key: what they are
    of. A shard asks for its own, and takes the others only if these are what it finds there."""
    path = folder / f"outputs-{digest(key)[:16]}.npy"
    fetched(folder, path.name)
    try:
        known = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # none yet, or damaged
        known = np.empty(0)
    if known.ndim and own.stop <= len(known) and agree(known[own], ask(own)):
        return np.asarray(known)
    made = ask(None)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, made)
    return made
