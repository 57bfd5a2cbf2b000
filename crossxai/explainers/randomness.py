"""Seeds for libraries that draw from global generators, which are left as they were found."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from crossxai.process import streams_kept


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, NumPy's and torch's global generators start from `seed` inside; afterwards they go on as before.

    torch counts only if it is loaded. TensorFlow has no state that can be put back this way: see `xplique_bridge`.
    """
    torch = sys.modules.get("torch")
    with streams_kept():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the generator that libraries draw from
        if torch is not None:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch other devices' generators too
        yield
