"""Where an experiment's samples come from: sources by name, each of a package that registers it, ours among them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from crossxai import plugins
from crossxai.errors import UnknownName

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

    def samples(self, experiment: Experiment) -> tuple[Samples, dict[str, Any]]:
        """`data.n` samples, and what the manifest says of them: source, split, n, of, fingerprint, description."""
        ...


@cache
def discover() -> tuple[dict[str, type[Source]], tuple[plugins.Broken, ...]]:
    """The sources by name, and the plug-ins that cannot be used."""
    found: dict[str, type[Source]] = {}
    return found, plugins.add(GROUP, found, lambda kind: plugins.lacks(kind, ("problem", "samples")))


def get(name: str) -> Source:
    """The source of this name; raises `UnknownName` with those that there are."""
    found, _ = discover()
    if name not in found:
        raise UnknownName("source", name, found)
    return found[name]()
