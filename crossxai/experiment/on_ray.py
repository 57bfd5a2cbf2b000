"""Runs on Ray: one actor per worker holds models and samples and makes one shard after the other; what a dead one had begun goes
on in another."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from crossxai.errors import InvalidInput, ModelFailed
from crossxai.experiment.merging import merge
from crossxai.experiment.progress import Progress
from crossxai.experiment.specification import Experiment
from crossxai.experiment.workers import TRIES, Engine, Worker, count_of
from crossxai.files import writable_folder
from crossxai.files.remote import shown
from crossxai.process import require

CPUS = 4
"""Of a worker without a GPU, if nobody says how many workers there are."""
STORE = 128 * 2**20
"""Bytes of the store of objects of a cluster that is started here: no array goes through it."""


def run_on_ray(
    experiment: Experiment, out: Path, engine: Engine, command: str = "", console: Console | None = None
) -> Path:
    """Run an experiment in shards on Ray, merge them, and return the folder. The same command goes on with the shards that are
    missing. Raises what `run` and `merge` raise, and `ModelFailed` where a shard ends its worker again and again."""
    ray: Any = require("ray", "ray", "--engine ray")
    writable_folder(out)
    out, started = out.resolve(), not ray.is_initialized()
    if started:
        local: dict[str, Any] = {} if engine.address else {"include_dashboard": False, "object_store_memory": STORE}
        if not engine.address:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
        try:
            ray.init(address=engine.address or None, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError) as error:
            raise InvalidInput(f"--address {engine.address}: there is no Ray cluster: {error}") from error
    try:
        _make_all(ray, experiment, out, engine, command, console or Console(stderr=True))
    finally:
        if started:
            ray.shutdown()
    return merge(out)


def _make_all(ray: Any, experiment: Experiment, out: Path, engine: Engine, command: str, console: Console) -> None:
    """Give every worker a shard, and the next one when it is done."""
    workers, options = _shares(ray.cluster_resources(), engine)
    actor = ray.remote(Worker).options(**options)

    def start() -> Any:
        return actor.remote(experiment, shown(out), command)

    for tried in range(1, TRIES + 1):
        first = start()
        try:
            n, least, wrong = ray.get(first.samples.remote())
            break
        except ray.exceptions.RayActorError as error:
            if tried == TRIES:
                raise ModelFailed(
                    f"{TRIES} workers, one after the other, ended while they loaded models and samples: {error}"
                ) from error
            console.print(
                "A worker died while it loaded models and samples; another one does.", style="yellow", highlight=False
            )
    if wrong:
        raise InvalidInput(wrong)
    count = count_of(engine, workers, n, least, out)
    queue, died = deque(range(1, count + 1)), Counter[int]()
    idle = [first, *(start() for _ in range(min(workers, count) - 1))]
    at_work: dict[Any, tuple[Any, int]] = {}
    with Progress(console, unit="shards") as progress:
        progress.stage(f"{len(idle)} workers", count)
        try:
            while queue or at_work:
                while queue and idle:
                    worker, number = idle.pop(), queue.popleft()
                    at_work[worker.make.remote(number, count)] = worker, number
                (done,), _ = ray.wait([*at_work], num_returns=1)
                worker, number = at_work.pop(done)
                try:
                    wrong = ray.get(done)
                except ray.exceptions.RayActorError as error:
                    died[number] += 1
                    if died[number] == TRIES:
                        raise ModelFailed(
                            f"shard {number}/{count} ended {TRIES} workers, for want of memory perhaps: {error}"
                        ) from error
                    console.print(
                        f"A worker died; shard {number}/{count} goes on in another.", style="yellow", highlight=False
                    )
                    queue.appendleft(number)
                    worker = start()
                else:
                    if wrong:
                        raise InvalidInput(f"shard {number}/{count}: {wrong}")
                    progress.advance(1)
                idle.append(worker)
        finally:
            for worker in (*idle, *(worker for worker, _ in at_work.values())):
                with suppress(ray.exceptions.RayError):
                    ray.kill(worker)
        progress.finish("shards")


def _shares(resources: Mapping[str, float], engine: Engine) -> tuple[int, dict[str, float]]:
    """How many workers, and what each one gets; raises `InvalidInput` where there are no GPUs for it."""
    cpus, gpus = resources.get("CPU", float(os.cpu_count() or 1)), resources.get("GPU", 0.0)
    if engine.gpus > gpus:
        raise InvalidInput(f"--gpus-per-worker {engine.gpus:g}: Ray sees {gpus:g} GPUs")
    fitting = int(gpus // engine.gpus) if engine.gpus else max(1, int(cpus // CPUS))
    workers = engine.workers or fitting
    if engine.gpus and workers > fitting:
        raise InvalidInput(
            f"{workers} workers of {engine.gpus:g} GPUs each need more than {gpus:g}: --workers {fitting}"
        )
    each = cpus / workers
    return workers, {"num_cpus": float(int(each)) if each >= 1 else each * 0.99, "num_gpus": engine.gpus}
