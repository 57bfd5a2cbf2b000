"""Runs on Ray: one actor per worker holds models and samples and makes one shard after the other; what a dead one had begun goes
on in another."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from crossxai.errors import CrossXAIError, InvalidInput, MissingDependency, ModelFailed
from crossxai.experiment import sharding
from crossxai.experiment.merging import merge
from crossxai.experiment.progress import Progress
from crossxai.experiment.run import Loaded, Prepared, check_names, load, run
from crossxai.experiment.sharding import Shard
from crossxai.experiment.specification import Experiment
from crossxai.files import writable_folder
from crossxai.version import __version__

EACH = 4
"""Shards of a worker if nobody says how many, so that slow workers leave some to fast ones."""
TRIES = 3
"""Workers that may die of one shard."""
CPUS = 4
"""Of a worker without a GPU, if nobody says how many workers there are."""
STORE = 128 * 2**20
"""Bytes of the store of objects of a cluster that is started here: no array goes through it."""


@dataclass(frozen=True)
class Engine:
    """Where workers run. workers, shards: 0 for as many as fit. address: of a cluster, "auto" for the one of this machine; ""
    starts one here, which ends with the run. gpus: of each worker, parts allowed."""

    workers: int = 0
    shards: int = 0
    address: str = ""
    gpus: float = 0.0


class Worker:
    """What runs in an actor: models and samples are loaded once, for all of its shards."""

    def __init__(self, experiment: Experiment, out: Path, command: str) -> None:
        self.experiment, self.out, self.command = experiment, out, command
        self.known: Loaded | None = None

    def samples(self) -> tuple[int, str]:
        """How many samples there are, or 0 and what is wrong."""
        try:
            return len(self._loaded().samples.ids), ""
        except CrossXAIError as error:
            return 0, str(error)

    def make(self, number: int, count: int) -> str:
        """Make a shard, if it is not there; what is wrong with the experiment, "" if nothing."""
        shard = Shard(number, count, self.command)
        try:
            if not self._made(shard):
                # Models that failed are made anew, so that their reasons are written into the shard's files.
                known = None if self._loaded().failed else self._loaded()
                run(self.experiment, self.out, Console(quiet=True), shard=shard, known=known)
        except CrossXAIError as error:
            return str(error)
        return ""

    def _loaded(self) -> Loaded:
        if self.known is None:
            check_names(self.experiment, Prepared())
            self.known = load(self.experiment, Prepared())
        return self.known

    def _made(self, shard: Shard) -> bool:
        """Whether the shard's files are finished, of this experiment and these samples, without a failure."""
        manifest: Mapping[str, Any] | None = sharding.read_manifest(shard.folder(self.out))
        known = self._loaded()
        if manifest is None or manifest.get("failures") or manifest.get("crossxai") != __version__:
            return False
        wanted = known.experiment.model_dump(mode="json"), known.data.get("fingerprint")
        return wanted == (manifest["settings"], manifest["data"].get("fingerprint"))


def run_on_ray(
    experiment: Experiment, out: Path, engine: Engine, command: str = "", console: Console | None = None
) -> Path:
    """Run an experiment in shards on Ray, merge them, and return the folder. The same command goes on with the shards that are
    missing. Raises what `run` and `merge` raise, and `ModelFailed` where a shard ends its worker again and again."""
    try:
        import ray
    except ImportError as error:
        raise MissingDependency("ray", "ray", "--engine ray") from error
    writable_folder(out)
    out, started = out.resolve(), not ray.is_initialized()
    if started:
        local: dict[str, Any] = {} if engine.address else {"include_dashboard": False, "object_store_memory": STORE}
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
        return actor.remote(experiment, out, command)

    first = start()
    n, wrong = ray.get(first.samples.remote())
    if wrong:
        raise InvalidInput(wrong)
    count = _count(engine, workers, n, out)
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


def _count(engine: Engine, workers: int, n: int, out: Path) -> int:
    """How many shards: as said, else as many as an earlier run here had, else a few for each worker."""
    before = {count for count, _ in sharding.present(out)}
    if engine.shards:
        Shard(1, engine.shards).rows(n)  # raises where there are more than samples
        return engine.shards
    return before.pop() if len(before) == 1 and max(before) <= n else min(n, EACH * workers)
