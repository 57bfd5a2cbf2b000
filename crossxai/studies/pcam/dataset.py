"""Patches to train on: a dataset for torch's DataLoader, and batches in order from a few threads for any framework."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock

import numpy as np
import numpy.typing as npt

from crossxai.studies.pcam.augmentation import Augmentation, Pixels
from crossxai.studies.pcam.reading import PCam

Labels = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PatchDataset:
    """Some rows of a split, augmented; sample i is (patch uint8 (96, 96, 3), label).

    rows: of the split, all without. augmentation: None for the patches as they are. epoch: decides, with the seed and the row,
    how a patch is augmented; `at` gives the dataset of another. Reads lazily and holds no open file when it is pickled or
    forked, so it goes into `torch.utils.data.DataLoader` with any number of workers, forked or spawned.
    """

    data: PCam
    rows: Rows | None = None
    augmentation: Augmentation | None = None
    seed: int = 0
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.data) if self.rows is None else len(self.rows)

    def at(self, epoch: int) -> PatchDataset:
        """The same samples as they are in this epoch."""
        return replace(self, epoch=epoch)

    def __getitem__(self, i: int) -> tuple[Pixels, int]:
        images, labels = self.batch(np.array([range(len(self))[i]]))
        return images[0], int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Pixels, int]]:
        """What DataLoader calls for a batch: one read instead of many."""
        images, labels = self.batch(np.asarray(indices))
        return list(zip(images, labels.tolist(), strict=True))

    def batch(self, indices: npt.NDArray[np.integer], reading: Lock | None = None) -> tuple[Pixels, Labels]:
        """Patches (n, 96, 96, 3) and labels (n,) of some samples. reading: held while the file is read."""
        chosen = np.asarray(indices, np.int64) if self.rows is None else self.rows[indices]
        with reading or Lock():
            images = self.data.pixels(chosen)
        if self.augmentation is not None:
            images = self.augmentation.batch(images, chosen, self.seed, self.epoch)
        return images, self.data.labels(chosen)

    def batches(self, parts: Iterable[npt.NDArray[np.integer]], workers: int = 1) -> Iterator[tuple[Pixels, Labels]]:
        """The batches of these samples, in order, made ahead by `workers` threads (0: when asked for).

        At most workers + 1 batches exist besides the one in use, however many there are. The bytes do not depend on workers.
        """
        if not workers:
            yield from (self.batch(part) for part in parts)
            return
        left, reading = iter(parts), Lock()  # threads share the reader; h5py would let only one of them read anyway
        ready: deque[Future[tuple[Pixels, Labels]]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="patches")
        try:
            ready.extend(pool.submit(self.batch, part, reading) for part in islice(left, workers + 1))
            while ready:
                batch = ready.popleft().result()
                ready.extend(pool.submit(self.batch, part, reading) for part in islice(left, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)
