"""A run of more samples than memory holds: its shards are made one after the other in this process, and merged."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from crossxai.data.odd import gigabytes
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.experiment import sharding
from crossxai.experiment.merging import merge
from crossxai.experiment.progress import Progress
from crossxai.experiment.run import Loaded, Prepared, check_names, failures_of, finished, load, require_ours, run
from crossxai.experiment.sharding import Shard
from crossxai.experiment.specification import Experiment
from crossxai.files import remote, writable_folder
from crossxai.files.splitting import split_result
from crossxai.on_demand import AT_ONCE


def run_all(
    experiment: Experiment, out: Path, console: Console | None = None, prepared: Prepared | None = None
) -> Path:
    """What `run` does, for any number of samples: those that take too much memory are explained and evaluated part by part, and
    merged. A run that was stopped goes on with the part it was at."""
    given = prepared or Prepared()
    console = console or Console(stderr=True)
    check_names(experiment, given)
    writable_folder(out)
    loaded = load(experiment, given)
    count, size = parts_of(loaded), gigabytes(loaded.samples.on_demand)
    if count == 1:
        return run(experiment, out, console, given, known=loaded)
    if finished(out, loaded):
        remote.fetched(out, *remote.RUN)
        return out
    require_ours(out)
    if others := {n for n, _ in sharding.present(out)} - {count}:
        raise InvalidInput(
            f"{out / sharding.FOLDER} holds shards of a division into {others.pop()}, this run is made in {count} parts: "
            "merge or remove them, or choose another folder"
        )
    n = len(loaded.samples.ids)
    console.print(f"{n} samples take {size}: they are explained and evaluated in {count} parts.", highlight=False)
    shards = [Shard(number, count) for number in range(1, count + 1)]
    todo = [shard for shard in shards if not finished(shard.folder(out), loaded)]
    for shard in todo[:1]:  # which tells what is chosen, and what refuses
        _take_over(out, shard, n)
        run(experiment, out, console, given, shard, loaded)
    with Progress(console, unit="parts") as progress:
        progress.stage(f"{n} samples", count)
        progress.skip(count - len(todo[1:]))
        for shard in todo[1:]:
            _take_over(out, shard, n)
            run(experiment, out, Console(quiet=True), given, shard, loaded)
            progress.advance(1)
    merge(out)
    if not failures_of(out):  # else the parts say what is to be done again
        remote.remove_folder(out / sharding.FOLDER)
    return out


def _take_over(out: Path, shard: Shard, n: int) -> None:
    """Give a part what an earlier run in the folder found of its samples; the part itself knows what it can use of that."""
    for path in remote.fetched(out, "explanations/*/*.h5"):
        own = shard.folder(out) / path.relative_to(out)
        if not remote.exists(own):
            try:
                split_result(path, own, shard.rows(n), n)
            except InvalidFile:
                continue  # it is computed again


def parts_of(loaded: Loaded) -> int:
    """How many parts a run is made in; raises `InvalidInput` where it cannot be, and all is too much at once."""
    samples, count = loaded.samples, sharding.least(loaded.samples)
    if count > 1:
        try:
            loaded.of(Shard(1, count))
        except InvalidInput as error:
            if samples.on_demand <= AT_ONCE:
                return 1
            size = gigabytes(samples.on_demand)
            raise InvalidInput(
                f"{len(samples.ids)} samples take {size}, so that the run is made in parts: {error}"
            ) from error
    return count
