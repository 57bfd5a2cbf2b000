"""Where an experiment's samples come from: sources by name, each of a package that registers it, ours among them."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai import plugins
from crossxai.errors import InvalidInput, UnknownName

GROUP = "crossxai.sources"
"""Entry points of packages that bring samples: classes like `crossxai.experiment.loading.Source`, made without arguments."""


def discover() -> tuple[dict[str, type[Any]], tuple[plugins.Broken, ...]]:
    """The sources by name, and the plug-ins that cannot be used."""
    return plugins.classes(GROUP, ("problem", "samples"))


def get(name: str) -> Any:
    """The source of this name; raises `UnknownName` with those that there are."""
    known, broken = discover()
    if name not in known:
        raise UnknownName("source", name, known, [str(plugin) for plugin in broken])
    return known[name]()


def balanced(labels: Any, n: int, seed: int) -> Any:
    """n rows, as near to half of each class as the data allow, in random but reproducible order."""
    if n > len(labels):
        raise InvalidInput(f"data.n = {n} samples asked for, the data hold {len(labels)}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    positive, negative = order[labels[order] == 1], order[labels[order] != 1]
    take = min(len(positive), max((n + 1) // 2, n - len(negative)))
    return np.sort(np.concatenate([positive[:take], negative[: n - take]]))
