"""Where an experiment's samples come from: sources by name, each of a package that registers it, ours among them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from crossxai import plugins
from crossxai.errors import InvalidInput, UnknownName

if TYPE_CHECKING:
    from crossxai.experiment.specification import Data, Experiment
    from crossxai.files import Samples


GROUP = "crossxai.sources"
"""Entry points of packages that bring samples: classes like `Source`, made without arguments."""


class Source(Protocol):
    """A data set that an experiment may name as `source` in `[data]`."""

    name: ClassVar[str]

    def problem(self, data: Data) -> str:
        """What is wrong with an experiment's `[data]` for this source, and what to write; "" if nothing."""
        ...

    def samples(self, experiment: Experiment) -> Samples | tuple[Samples, dict[str, Any]]:
        """`data.n` samples, alone or with what the run says of them beyond its defaults: source, split, of, description."""
        ...


@cache
def discover() -> tuple[dict[str, type[Source]], tuple[plugins.Broken, ...]]:
    """The sources by name, and the plug-ins that cannot be used."""
    known: dict[str, type[Source]] = {}
    return known, plugins.add(GROUP, known, lambda kind: plugins.lacks(kind, ("problem", "samples")))


def get(name: str) -> Source:
    """The source of this name; raises `UnknownName` with those that there are."""
    known, broken = discover()
    if name not in known:
        raise UnknownName("source", name, known, [str(plugin) for plugin in broken])
    return known[name]()


def balanced(labels: Any, n: int, seed: int) -> Any:
    """n rows, as near to half of each class as the data allow, in random but reproducible order."""
    if n > len(labels):
        raise InvalidInput(f"data.n = {n} samples asked for, the split holds {len(labels)}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    positive, negative = order[labels[order] == 1], order[labels[order] != 1]
    take = min(len(positive), max((n + 1) // 2, n - len(negative)))
    return np.sort(np.concatenate([positive[:take], negative[: n - take]]))
