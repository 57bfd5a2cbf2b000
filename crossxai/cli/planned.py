"""What the terminal or a program is told of a plan: a line per step, and per way of running it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from crossxai.cli import printing
from crossxai.cli.commands import quiet
from crossxai.experiment.planning import Plan
from crossxai.experiment.ways import Way
from crossxai.report import words

if TYPE_CHECKING:
    from crossxai.experiment.sharding import Shard
    from crossxai.experiment.specification import Experiment
    from crossxai.experiment.workers import Engine


def say_plan(
    experiment: Experiment,
    out: Path,
    as_json: bool,
    silent: bool,
    shard: Shard | None = None,
    engine: Engine | None = None,
    price: str = "",
) -> None:
    """What a run would cost, in this process, and where an engine, a shard or a price is given, by each way of running it."""
    from crossxai.experiment import defaults
    from crossxai.experiment.planning import plan
    from crossxai.experiment.ways import price_of, ways

    quiet()
    if price:
        price_of(price)  # wrong ones are refused before anything is loaded
    planned = plan(experiment, out, shard=shard)
    by_way = ways(planned, out, engine, shard, price)
    for line in defaults.lines(planned.chosen):
        printing.notes(silent).print(line, markup=False, highlight=False, soft_wrap=True)
    if as_json:
        forward, backward = planned.passes
        total = {"forward": forward, "backward": backward, "seconds": planned.seconds, "exact": not planned.bounded}
        printing.print_json({"total": total, **vars(planned), "ways": by_way})
        return
    console = printing.results()
    tables = [steps(planned)]
    if engine or shard or price:
        tables.append(table_of(by_way))
    for table, lines in tables:
        console.print(table)
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def steps(plan: Plan) -> tuple[Table, list[str]]:
    """One line per step of a plan, the total, and sentences on memory, disk and what is not exact."""
    table = Table(title="What the run will cost", title_justify="left", box=box.SIMPLE, padding=0, pad_edge=False)
    table.add_column("step", no_wrap=True)
    for heading in ("forward", "backward", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for model in dict.fromkeys(row.model for row in plan.rows):
        table.add_section()
        table.add_row(f"[bold]{escape(model)}[/]")
        for row in (row for row in plan.rows if row.model == model):
            passes = [_grouped(number) if number or not row.note else "" for number in (row.forward, row.backward)]
            seconds = words.seconds(row.seconds) if any(passes) else ""
            table.add_row(escape(row.name), *passes, seconds, escape(words.shortened(row.note)))
    table.add_section()
    table.add_row("[bold]all[/]", *map(_grouped, plan.passes), words.seconds(plan.seconds), "")
    exact = (
        "at most so many passes"
        if plan.bounded
        else "exactly so many passes, if maps that are equal on two samples, and no others, are on all,"
    )
    if plan.counted < plan.samples:
        exact = f"passes, counted on {plan.counted} of them,"
    passing = f", and {_size(plan.passing // plan.parts)} more until maps are measured" if plan.passing else ""
    return table, [
        f"{plan.samples} samples; {exact} of one sample each; time as measured on a batch, without the page.",
        f"Memory: about {_size(plan.memory)}. Disk: at most {_size(plan.disk)}{passing}. Nothing was written.",
        *(f"{name} cannot be made: {reason}" for name, reason in plan.failed.items()),
    ]


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count, 1e5) / 1e6:.1f} MB"


def table_of(ways: list[Way]) -> tuple[Table, list[str]]:
    """One line per way of running all samples, and sentences on what is measured and what is computed."""
    table = Table(
        title="By way of running all samples", title_justify="left", box=box.SIMPLE, padding=0, pad_edge=False
    )
    priced = any(way.cost is not None for way in ways)
    table.add_column("", no_wrap=True)
    for heading in ("workers", "shards", "a shard", "in all", "workers' time", "disk", "left", *["cost"] * priced):
        table.add_column(heading, justify="right", no_wrap=True)
    for way in ways:
        times = [words.seconds(x) for x in (way.shard if way.shards > 1 else math.nan, way.seconds, way.busy)]
        cost = [] if way.cost is None else [f"{way.cost:,.2f}"]
        sizes = [_size(way.running), _size(way.end)]
        table.add_row(way.how, str(way.workers), str(way.shards), *times, *sizes, *cost)
    measured = "Measured here: loading, predictions and checks, and one batch. Computed from that: all else"
    if len(ways) == 1:
        return table, [f"{measured}, without the page."]
    paid = ", which the price is for" if priced else ""
    return table, [
        f"{measured}, for workers as fast as this process. A shard includes what its process loads; workers' time is of all "
        f"workers together{paid}; disk is at most, and half of what is left are the shards.",
        "Not counted: waiting for workers, joining the shards, and the page.",
    ]
