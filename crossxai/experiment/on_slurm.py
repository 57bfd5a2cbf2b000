"""Runs on Slurm, through submitit: a job per shard; where there is no Slurm, a process per shard on this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from crossxai.errors import InvalidInput, ModelFailed
from crossxai.experiment.merging import merge
from crossxai.experiment.progress import Progress
from crossxai.experiment.specification import Experiment
from crossxai.experiment.workers import TRIES, Engine, Worker, count_of
from crossxai.files import writable_folder
from crossxai.files.atomic import disk_errors
from crossxai.files.remote import shown
from crossxai.files.stores import is_url
from crossxai.process import require

LOGS = "slurm"
"""Where jobs and their logs lie, in the folder of the run; of a run in a bucket, in the working directory."""
SECONDS = 0.5
"""Between two looks at the jobs."""


class _Died(Exception):
    """A job ended without an answer."""


def run_on_slurm(
    experiment: Experiment, out: Path, engine: Engine, command: str = "", console: Console | None = None
) -> Path:
    """Run an experiment in shards on Slurm, merge them, and return the folder. The same command goes on with the shards that are
    missing. Raises what `run` and `merge` raise, and `ModelFailed` where the job of a shard dies again and again."""
    # Else its import sets up logging, which closes every handler that anybody has.
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    submitit: Any = require("submitit", "slurm", "--engine slurm")
    writable_folder(out)
    out = out.resolve()
    place = shown(out)
    folder = (Path.cwd() if is_url(place) else out) / LOGS
    with disk_errors(f"cannot write jobs in {folder}"):
        executor = submitit.AutoExecutor(folder=folder)
        _make_all(submitit, executor, (experiment, place, command), out, engine, console or Console(stderr=True))
    return merge(out)


def _make_all(
    submitit: Any, executor: Any, given: tuple[Experiment, str, str], out: Path, engine: Engine, console: Console
) -> None:
    """Make every shard."""
    here = executor.cluster != "slurm"
    executor.update_parameters(name="crossxai", **_settings(engine, here))
    try:
        n, least, wrong = _answer(executor.submit(_samples, *given[:2]), submitit)
    except _Died as error:
        raise ModelFailed(
            f"the first job ended while it loaded models and samples: {error}; logs are in {executor.folder}"
        ) from error
    if wrong:
        raise InvalidInput(wrong)
    # Slurm itself decides how many jobs run at once.
    count = count_of(engine, engine.workers or 1, n, least, out)
    jobs = _Jobs(submitit, executor, given, count, engine.workers or (1 if here else count))
    with Progress(console, unit="shards") as progress:
        progress.stage(f"{executor.cluster}: {min(jobs.most, count)} jobs at once", count)
        jobs.make_all(progress, console)
        progress.finish("shards")


class _Jobs:
    """The jobs of a run, at most so many at once; one that dies is submitted again."""

    def __init__(self, submitit: Any, executor: Any, given: tuple[Experiment, str, str], count: int, most: int) -> None:
        self.submitit, self.executor, self.given, self.count, self.most = submitit, executor, given, count, most

    def make_all(self, progress: Progress, console: Console) -> None:
        """Make every shard; what still runs is cancelled where one cannot be made, or the run is stopped."""
        queue, running = [(number, 1) for number in range(self.count, 0, -1)], list[tuple[Any, int, int]]()
        try:
            while queue or running:
                while queue and len(running) < self.most:
                    number, tries = queue.pop()
                    running.append((self.executor.submit(_make, *self.given, number, self.count), number, tries))
                for one in [one for one in running if one[0].done()]:
                    running.remove(one)
                    if self._again(*one, console):
                        queue.append((one[1], one[2] + 1))
                    else:
                        progress.advance(1)
                time.sleep(SECONDS)
        finally:
            for job, _, _ in running:
                job.cancel()

    def _again(self, job: Any, number: int, tries: int, console: Console) -> bool:
        """Whether the job died, and is worth another try."""
        try:
            wrong = _answer(job, self.submitit)
        except _Died as error:
            if tries == TRIES:
                raise ModelFailed(
                    f"shard {number}/{self.count} ended {TRIES} jobs, for want of memory perhaps: {error}; logs are in "
                    f"{self.executor.folder}"
                ) from error
            console.print(
                f"The job of shard {number}/{self.count} died; another goes on.", style="yellow", highlight=False
            )
            return True
        if wrong:
            raise InvalidInput(f"shard {number}/{self.count}: {wrong}")
        return False


def _answer(job: Any, submitit: Any) -> Any:
    """What a job gave; waits for it."""
    try:
        return job.result()
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        raise _Died(str(error).strip().splitlines()[-1]) from error


def _settings(engine: Engine, here: bool) -> dict[str, Any]:
    """What submitit is told; Slurm's own options mean nothing where there is no Slurm."""
    given: dict[str, Any] = {} if here else {f"slurm_{key}": value for key, value in engine.slurm.items()}
    if engine.gpus:
        if engine.gpus != int(engine.gpus):
            raise InvalidInput(f"--gpus-per-worker {engine.gpus:g}: Slurm gives whole GPUs")
        given["gpus_per_node"] = int(engine.gpus)
    return given


def _samples(experiment: Experiment, out: str) -> tuple[int, int, str]:
    return Worker(experiment, out, "").samples()


def _make(experiment: Experiment, out: str, command: str, number: int, count: int) -> str:
    return Worker(experiment, out, command).make(number, count)
