"""What a run will cost, before it runs: passes of every explainer and metric, time, memory and disk. Nothing is written.

Models and samples are loaded, models are checked, and a few batches are timed; that is what a run begins with, too."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossxai.experiment import keeping
from crossxai.experiment.counting import counting
from crossxai.experiment.parts import parts_of
from crossxai.experiment.planned_model import PlannedModel, Row
from crossxai.experiment.run import Prepared, check_names, load, load_models
from crossxai.experiment.sharding import Shard
from crossxai.experiment.specification import Experiment
from crossxai.files.remote import fetched

PAGE = 400_000
"""Bytes of a page without samples, and of a map on it."""
PICTURE = 8_000


@dataclass(frozen=True)
class Plan:
    """What a run will cost. memory, disk: bytes, at most. passing: of disk, what more stands there until maps are
    measured, where not all are kept. samples: of this part, `of` all, on so many of which passes were `counted`; parts: in which
    one process makes them. loading, loaded: of what is done before the first question, seconds and (forward, backward) passes.
    chosen: the manifest's entry about explainers and metrics that nobody named; failed: models that cannot be made, and why."""

    rows: tuple[Row, ...]
    memory: int
    disk: int
    passing: int
    samples: int
    of: int
    counted: int
    parts: int
    loading: float
    loaded: tuple[int, int]
    chosen: dict[str, Any]
    failed: dict[str, str]

    @property
    def passes(self) -> tuple[int, int]:
        """All (forward, backward) passes."""
        return sum(row.forward for row in self.rows), sum(row.backward for row in self.rows)

    @property
    def seconds(self) -> float:
        """The time in all."""
        return sum(row.seconds for row in self.rows)

    @property
    def bounded(self) -> bool:
        """Whether there may be fewer passes."""
        return any(row.bounded for row in self.rows)


def plan(experiment: Experiment, out: Path, prepared: Prepared | None = None, shard: Shard | None = None) -> Plan:
    """What `run` would do into this folder, where finished maps and scores are used again; raises what it would raise first."""
    given = prepared or Prepared()
    check_names(experiment, given)
    start = time.perf_counter()
    out = out if shard is None else shard.folder(out)
    fetched(out, "explanations/*/*.h5")
    models, failed = dict(given.models), dict[str, Exception]()
    load_models(experiment, models, failed)
    with counting([one.model for one in models.values()]) as counted, tempfile.TemporaryDirectory() as folder:
        loaded = load(experiment, replace(given, models=models), shard=shard)
        loading = time.perf_counter() - start
        loaded_passes = [counted.of(one.model) for one in loaded.models.values()]
        parts = 1 if shard else parts_of(loaded)
        if parts > 1:  # one of which is looked at: maps of all samples may be more than memory holds
            loaded = loaded.of(Shard(1, parts))
        elif shard is None and loaded.samples.on_demand:
            loaded = replace(loaded, samples=loaded.samples.in_memory())
        rows: list[Row] = []
        memory = disk = whole = 0
        for name in loaded.models:
            own = PlannedModel(loaded, name, Path(folder) / "run", out, counted, start)  # shards write beside it, too
            rows += own.rows()
            memory, disk, start = max(memory, own.memory()), disk + own.disk() + own.tables(), time.perf_counter()
            whole = max(whole, own.maps() - own.disk())
    every, of_these = len(loaded.samples.ids), range(len(loaded.samples.ids))[loaded.rows or slice(None)]
    n = len(of_these) if shard else every
    scale = n / len(of_these)
    kept = keeping.rows_of(loaded.experiment.keep_maps, loaded.samples, loaded.experiment.seed)
    drawn = n if kept is None else min(len(kept), n)
    inputs = sum(values.nbytes for values in loaded.samples.inputs.values()) / every
    inputs *= (
        drawn if loaded.samples.on_demand else n
    )  # of maps that are not kept, images that are read on demand are not
    pages = PAGE + drawn * sum(row.kind == "explainer" and not row.note for row in rows) * PICTURE
    forward, backward = (sum(passes) for passes in zip(*loaded_passes, strict=True)) if loaded_passes else (0, 0)
    return Plan(
        rows=tuple(_scaled(row, scale) for row in rows),
        memory=memory,
        disk=round(disk * scale + inputs) + pages,
        passing=round(whole * scale),
        samples=n,
        of=every,
        counted=len(of_these),
        parts=parts,
        loading=loading,
        loaded=(forward, backward),
        chosen=loaded.chosen,
        failed={name: str(error) for name, error in loaded.failed.items()},
    )


def _scaled(row: Row, scale: float) -> Row:
    """A step of more samples than those on which it was counted."""
    if scale == 1 or row.kind == "preparing" or row.whole:
        return row
    forward, backward = round(row.forward * scale), round(row.backward * scale)
    return replace(row, forward=forward, backward=backward, seconds=row.seconds * scale)
