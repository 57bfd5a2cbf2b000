"""Patches per second of the training data's way, beside raw h5py reads of whole chunks of the same file, in one run.

    python benchmarks/reading.py [--data DIR] [--patches 4096] [--batch 32] [--repeats 3]

DIR holds PatchCamelyon's files; without it, random patches are written, 64 to an HDF5 chunk. Every row reads the same patches:
in the file's order or shuffled, as they are or augmented, made when asked for or ahead by threads, or by torch's DataLoader with
worker processes (if torch is installed), whose start is not counted. Rates are medians; the file is in the system's cache.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from rich.console import Console
from rich.table import Table

from crossxai.studies.pcam.dataset import Augmentation, PatchDataset
from crossxai.studies.pcam.reading import PCam, file_name, write_split


def written(folder: Path, n: int) -> Path:
    """A split of random patches, its images in chunks of 64."""
    rng = np.random.default_rng(0)
    write_split(folder, "train", np.zeros((n, 96, 96, 3), np.uint8), rng.permutation(n) % 2)
    with h5py.File(folder / file_name("train", "x"), "w") as file:
        images = file.create_dataset("x", (n, 96, 96, 3), np.uint8, chunks=(64, 96, 96, 3))
        for start in range(0, n, 64):
            images[start : start + 64] = rng.integers(0, 256, images[start : start + 64].shape, np.uint8)
    return folder


def raw(path: Path, n: int) -> Iterable[Any]:
    """h5py alone: one slice per chunk, or per 64 patches of a file without chunks."""
    with h5py.File(path) as file:
        images = file["x"]
        size = images.chunks[0] if images.chunks else 64
        for start in range(0, n, size):
            yield images[start : start + size]


def loaded(dataset: PatchDataset, order: np.ndarray, batch: int, workers: int) -> Iterable[Any]:
    """torch's DataLoader; the first thing it yields is nothing, when its workers have started."""
    from torch.utils.data import DataLoader

    loader = iter(DataLoader(dataset, batch, sampler=order.tolist(), num_workers=workers, collate_fn=list))
    first = next(loader)
    yield None
    yield first
    yield from loader


def rate(make: Callable[[], Iterable[Any]], n: int, repeats: int) -> float:
    """Median patches per second; what comes before a None is not counted."""
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        for item in make():
            if item is None:
                start = time.perf_counter()
        rates.append(n / (time.perf_counter() - start))
    return float(np.median(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of PatchCamelyon's files; the training split is read")
    parser.add_argument("--patches", type=int, default=4096, help="how many are read")
    parser.add_argument("--batch", type=int, default=32, help="patches per batch")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each row")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = PCam(options.data or written(Path(folder), options.patches), "train")
        n = min(options.patches, len(data)) // options.batch * options.batch
        bare = rate(lambda: raw(data.paths["x"], n), n, options.repeats)
        table = Table(
            "reading", "order", "workers", "patches/s", "of raw", title=f"{n:,} patches, batches of {options.batch}"
        )
        table.add_row("h5py, whole chunks", "the file's", "", f"{bare:,.0f}", "1")
        orders = {"the file's": np.arange(n), "shuffled": np.random.default_rng(0).permutation(n)}
        for name, augmentation in (("patches", None), ("augmented", Augmentation())):
            dataset = PatchDataset(data, augmentation=augmentation)
            for how, order in orders.items():
                parts = order.reshape(-1, options.batch)
                ways = {
                    f"{workers} threads": (lambda d=dataset, p=parts, w=workers: d.batches(p, w))
                    for workers in (0, 1, 2)
                }
                if importlib.util.find_spec("torch"):
                    ways |= {
                        f"{workers} processes": (lambda d=dataset, o=order, w=workers: loaded(d, o, options.batch, w))
                        for workers in (1, 2)
                    }
                for workers, make in ways.items():
                    found = rate(make, n, options.repeats)
                    table.add_row(name, how, workers, f"{found:,.0f}", f"{found / bare:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
