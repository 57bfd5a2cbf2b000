"""Peak memory of deletion and insertion beside the documented formula, from 10 to 10,000 samples.

    python benchmarks/memory.py [--samples 10 100 1000 10000] [--maps 2] [--side 32]

What NumPy and Python allocate while `evaluate` runs (tracemalloc), with a model that needs next to nothing itself, so that what
is seen is the harness. The inputs and the maps exist before; `curves.memory` is the formula.
"""

from __future__ import annotations

import argparse
import tracemalloc

import numpy as np
from rich.console import Console
from rich.table import Table

from crossxai import Attribution, Modality, Question, Target
from crossxai.adapters.numpy import FunctionModel
from crossxai.evaluation.curves import Deletion, Insertion, evaluate, memory, passes

MIB = 2**20


def measure(n: int, options: argparse.Namespace) -> list[str]:
    """One row: samples, passes, inputs and maps, peak, formula."""
    rng = np.random.default_rng(0)
    shape = (n, options.side, options.side)
    images = rng.random((*shape, 3), np.float32)
    model = FunctionModel(lambda x: x.mean((1, 2)), (Modality.image(),))
    question = Question(model, (images,), Target.outputs(0, n, 3), batch_size=32)
    maps = [
        Attribution((rng.random((*shape, 1), np.float32),), question.modalities, question.ids, f"map {i}")
        for i in range(options.maps)
    ]
    metrics = [Deletion(), Insertion()]
    count, bound = passes(question, maps, metrics), memory(question, maps, metrics)
    tracemalloc.start()
    evaluate(question, maps, metrics)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    given = images.nbytes + sum(m.values[0].nbytes for m in maps)
    return [f"{n:,}", f"{count:,}", *(f"{size / MIB:.1f}" for size in (given, peak, bound))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--maps", type=int, default=2, help="explainers judged together")
    parser.add_argument("--side", type=int, default=32, help="height and width in pixels")
    options = parser.parse_args()
    columns = ("samples", "masked images", "inputs and maps", "peak besides", "formula")
    table = Table(*columns, title=f"MiB; {options.maps} maps of {options.side} × {options.side} pixels, 24 steps")
    for n in options.samples:
        table.add_row(*measure(n, options))
    Console().print(table)


if __name__ == "__main__":
    main()
