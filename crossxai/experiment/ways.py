"""What a plan comes to by each way of running it: in this process, shard after shard, or by many workers of an engine."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from crossxai.errors import InvalidInput
from crossxai.experiment.on_ray import CPUS
from crossxai.experiment.planned_model import Row
from crossxai.experiment.planning import Plan
from crossxai.experiment.sharding import Shard
from crossxai.experiment.workers import Engine, count_of


@dataclass(frozen=True)
class Way:
    """One way of running all samples of an experiment.

    workers: processes at once; shards: 1 where there are none. shard: seconds of the longest shard, with what its process
    loads and predicts beforehand. seconds: until all are done. busy: of all workers together, for which somebody pays. passes:
    (forward, backward) of all. running, end: bytes on disk at most, and when all is done. cost: of `busy`, None without a price.
    """

    how: str
    workers: int
    shards: int
    shard: float
    seconds: float
    busy: float
    passes: tuple[int, int]
    running: int
    end: int
    cost: float | None = None


def ways(plan: Plan, out: Path, engine: Engine | None = None, shard: Shard | None = None, price: str = "") -> list[Way]:
    """This process, and where an engine or a shard is named, shards one after the other and at once.

    plan: of all samples, or of the shard, from which all are computed. Every worker is taken to be as fast as this process, and
    samples to take equally long; waiting for workers, joining shards and the page are left out. Raises `InvalidInput`.
    """
    every = [_way(plan, "this process", 1, plan.parts, keeps=True, stay=False)]
    if shard is not None:
        n = shard.count
        every += [_way(plan, "--shard, one by one", 1, n), _way(plan, "--shard, all at once", n, n)]
    elif engine is not None:
        if engine.address and not engine.workers:
            raise InvalidInput("--dry-run starts nothing at --address: say how many workers there are, --workers 8")
        fitting = engine.workers or max(1, (os.cpu_count() or 1) // CPUS)
        n = count_of(engine, fitting, plan.of, plan.parts, out)
        workers, jobs = min(fitting, n), min(engine.workers or n, n)
        every += [
            _way(plan, "--shard, one by one", 1, n),
            _way(plan, "--engine ray", workers, n, keeps=True),
            _way(plan, "--engine slurm", jobs, n, counts=True),
        ]
    if not price:
        return every
    each = price_of(price)
    return [replace(way, cost=way.busy / 3600 * each) for way in every]


def price_of(written: str) -> float:
    """The price of a worker for an hour; raises `InvalidInput`."""
    try:
        price = float(written)
    except ValueError:
        price = math.nan
    if not (math.isfinite(price) and price >= 0):
        raise InvalidInput(
            f"--price {written}: write what a worker costs for an hour as a number, 2.50 say, in a currency of yours"
        )
    return price


def _way(
    plan: Plan, how: str, workers: int, shards: int, keeps: bool = False, counts: bool = False, stay: bool = True
) -> Way:
    """keeps: whether a worker loads and predicts once, for all of its shards, and is held until all are done; else each shard
    does, and its worker is free afterwards. counts: whether models and samples are loaded once more before, to count samples.
    stay: whether shards lie beside what they were joined to at the end."""
    scale, largest = plan.of / plan.samples, math.ceil(plan.of / shards) / plan.of
    first = _sums(row for row in plan.rows if row.kind == "preparing")
    whole = _sums(row for row in plan.rows if row.kind != "preparing" and row.whole)
    parts = [scale * x for x in _sums(row for row in plan.rows if row.kind != "preparing" and not row.whole)]
    loads, rounds = workers if keeps else shards, math.ceil(shards / workers)
    once, own, every = first[2], parts[2] * largest + whole[2], parts[2] + whole[2] * shards
    before = plan.loading if counts else 0.0
    seconds = before + once * (1 if keeps else rounds) + (every if workers == 1 else rounds * own)
    forward, backward = (
        round(parts[k]) + whole[k] * shards + first[k] * loads + plan.loaded[k] * counts for k in (0, 1)
    )
    end, passing = round(plan.disk * scale), round(plan.passing * scale)
    running = max(end + math.ceil(passing * min(1.0, workers * largest)), end * (1 + (shards > 1)))
    end *= 1 + (shards > 1 and stay)
    return Way(
        how=how,
        workers=workers,
        shards=shards,
        shard=once + own,
        seconds=seconds,
        busy=workers * seconds if keeps else before + shards * once + every,
        passes=(int(forward), int(backward)),
        running=running,
        end=end,
    )


def _sums(rows: Iterable[Row]) -> tuple[int, int, float]:
    """Forward and backward passes, and seconds."""
    listed = [*rows]
    return sum(r.forward for r in listed), sum(r.backward for r in listed), sum(r.seconds for r in listed)
