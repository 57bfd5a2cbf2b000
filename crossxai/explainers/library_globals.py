"""What libraries keep for the whole process, exchanged for as long as a call lasts: names of theirs, and random generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from crossxai.process import ALONE, streams_kept


@contextmanager
def patched(owners: Sequence[Any], **members: Any) -> Iterator[None]:
    """Modules or classes with these members inside; put back, or taken away, as they were found. One thread at a time."""
    with ALONE:
        before = [{name: vars(owner)[name] for name in members if name in vars(owner)} for owner in owners]
        try:
            for owner in owners:
                for name, member in members.items():
                    setattr(owner, name, member)
            yield
        finally:
            for owner, own in zip(owners, before, strict=True):
                for name in members:
                    if name in own:
                        setattr(owner, name, own[name])
                    elif name in vars(owner):
                        delattr(owner, name)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, NumPy's and torch's global generators start from `seed` inside; afterwards they go on as before.

    torch counts only if it is loaded. TensorFlow has no state that can be put back this way: see `explainers.xplique`.
    """
    torch = sys.modules.get("torch")
    with streams_kept():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the generator that libraries draw from
        if torch is not None:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch other devices' generators too
        yield
