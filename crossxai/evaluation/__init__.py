"""Metrics, frozen dataclasses: `discover()` lists them, `get("deletion", steps=12)` makes one, `curves.evaluate` runs
many in one stream. A metric is added in a file of `metrics/`, or by a package's entry point (group `crossxai.metrics`)."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import Any

from crossxai import plugins
from crossxai.attribution import Metric, Needs
from crossxai.errors import InvalidInput, UnknownName

GROUP = "crossxai.metrics"


@dataclass(frozen=True)
class Entry:
    """One metric: its name, direction, what it needs of the model, its purpose in one line, and the class itself."""

    name: str
    higher_is_better: bool
    needs: Needs
    purpose: str
    metric: type[Any]


@cache
def _catalogue() -> tuple[dict[str, type[Any]], tuple[plugins.Broken, ...]]:
    metrics: dict[str, type[Any]] = {}
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        for cls in vars(importlib.import_module(module.name)).values():
            if not _is_metric(cls) or cls.__module__ != module.name:
                continue
            if cls.name in metrics:
                raise RuntimeError(f"two metrics are called {cls.name!r}: {metrics[cls.name]} and {cls}")
            metrics[cls.name] = cls
    unusable = plugins.add(GROUP, metrics, _problem)
    return dict(sorted(metrics.items())), unusable


def _problem(cls: Any) -> str:
    if not (inspect.isclass(cls) and dataclasses.is_dataclass(cls)):
        return f"is {cls!r}, not a dataclass: write @dataclass(frozen=True) above the class"
    lacking = _lacking(cls)
    if not any("__call__" in vars(base) for base in cls.__mro__):
        lacking.append("__call__(question, attribution)")
    return f"{cls.__name__} lacks {', '.join(lacking)}" if lacking else ""


def discover() -> tuple[Entry, ...]:
    """Every metric of these folders and of installed plug-ins, by name."""
    entries = []
    for name, cls in _catalogue()[0].items():
        purpose = (inspect.getdoc(cls) or "").partition("\n")[0]
        entries.append(Entry(name, cls.higher_is_better, getattr(cls, "needs", "scores"), purpose, cls))
    return tuple(entries)


def broken() -> tuple[plugins.Broken, ...]:
    """The plug-ins that could not be used, with the reasons."""
    return _catalogue()[1]


def get(name: str, **params: Any) -> Metric:
    """The metric of that name with these parameters; raises `UnknownName`, or `InvalidInput` for a parameter."""
    entries = {entry.name: entry for entry in discover()}
    if name not in entries:
        raise UnknownName("metric", name, entries, [str(plugin) for plugin in broken()])
    cls = entries[name].metric
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for param in params:
        if param not in fields:
            near = difflib.get_close_matches(param, fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(fields)}"
            raise InvalidInput(f"metric {name!r} has no parameter {param!r}; {hint}")
    required = [f.name for f in fields.values() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [field for field in required if field not in params]
    if missing:
        raise InvalidInput(f"metric {name!r} needs {', '.join(missing)}: write get({name!r}, {missing[0]}=…)")
    metric: Metric = cls(**params)
    return metric


def _is_metric(cls: Any) -> bool:
    return isinstance(cls, type) and dataclasses.is_dataclass(cls) and not _lacking(cls)


def _lacking(cls: Any) -> list[str]:
    """What every metric says of itself and this class does not."""
    facts = {"name": str, "higher_is_better": bool}
    return [f"{fact}: {t.__name__}" for fact, t in facts.items() if not isinstance(getattr(cls, fact, None), t)]
