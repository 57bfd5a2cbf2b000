"""What makes the shards of a run in other processes, whichever engine starts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from crossxai.errors import CrossXAIError
from crossxai.experiment import sharding
from crossxai.experiment.run import Loaded, Prepared, check_names, finished, load, run
from crossxai.experiment.sharding import Shard
from crossxai.experiment.specification import Experiment
from crossxai.files import remote

EACH = 4
"""Shards of a worker if nobody says how many, so that slow workers leave some to fast ones."""
TRIES = 3
"""Workers that may die of one shard."""


@dataclass(frozen=True)
class Engine:
    """Where workers run. workers, shards: 0 for as many as fit. gpus: of each worker, parts allowed on Ray. address: of a Ray
    cluster, "auto" for the one of this machine; "" starts one here, which ends with the run. slurm: options of Slurm's own."""

    workers: int = 0
    shards: int = 0
    address: str = ""
    gpus: float = 0.0
    slurm: Mapping[str, str] = field(default_factory=dict)


class Worker:
    """What makes shards in a process of its own: models and samples are loaded once, for all of its shards."""

    def __init__(self, experiment: Experiment, out: str, command: str) -> None:
        """out: the run's folder, a path or a URL."""
        self.experiment, self.out, self.command = experiment, out, command
        self.known: Loaded | None = None

    def samples(self) -> tuple[int, int, str]:
        """How many samples there are, and how many parts each of which is in memory; or 0, 0 and what is wrong."""
        try:
            samples = self._loaded().samples
            return len(samples.ids), sharding.least(samples), ""
        except CrossXAIError as error:
            return 0, 0, str(error)

    def make(self, number: int, count: int) -> str:
        """Make a shard, if it is not there; what is wrong with the experiment, "" if nothing."""
        shard = Shard(number, count, self.command)
        try:
            with remote.folder(self.out) as out:
                if not finished(shard.folder(out), self._loaded()):
                    run(self.experiment, out, Console(quiet=True), shard=shard, known=self._loaded())
        except CrossXAIError as error:
            return str(error)
        return ""

    def _loaded(self) -> Loaded:
        if self.known is None:
            check_names(self.experiment, Prepared())
            self.known = load(self.experiment, Prepared())
        return self.known


def count_of(engine: Engine, workers: int, n: int, least: int, out: Path) -> int:
    """How many shards: as said, else as many as an earlier run here had, else a few for each worker, and at least so many."""
    before = {count for count, _ in sharding.present(out)}
    if engine.shards:
        Shard(1, engine.shards).rows(n)  # raises where there are more than samples
        return engine.shards
    return before.pop() if len(before) == 1 and max(before) <= n else min(n, max(least, EACH * workers))
