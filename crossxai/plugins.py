"""Code of others: what packages, and our own studies, register by entry points, and users' functions that experiments
name. A broken plug-in is named and breaks nothing else."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from crossxai.errors import CrossXAIError, InvalidInput, ModelFailed, in_words


@dataclass(frozen=True)
class Broken:
    """A plug-in that could not be used: its name, the package it came with, and why."""

    name: str
    package: str
    reason: str

    def __str__(self) -> str:
        return f"plug-in {self.name!r} of package {self.package}: {self.reason}"


def entries(group: str) -> list[EntryPoint]:
    """The entry points of a group, by the alphabet of their packages; reading them imports nothing."""
    return sorted(entry_points(group=group), key=lambda entry: (_package(entry), entry.name))


def load(entry: EntryPoint, problem: Callable[[Any], str]) -> Any:
    """The object of an entry point, or why it cannot be used (`Broken`); problem says what is wrong with one, "" if nothing."""
    try:
        loaded = entry.load()
    except Exception as error:  # whatever another package's module does while it is imported
        return Broken(entry.name, _package(entry), f"cannot be loaded: {type(error).__name__}: {error}")
    reason = problem(loaded)
    return Broken(entry.name, _package(entry), reason) if reason else loaded


def add(group: str, known: dict[str, Any], problem: Callable[[Any], str], by_entry: bool = False) -> tuple[Broken, ...]:
    """Add the objects of an entry-point group to `known`, by their `name` or their entry's; returns those that cannot
    be used. A name that is taken stays with whom it belongs to: ours, then plug-ins by the alphabet of their
    packages."""
    broken: list[Broken] = []
    own = set(known)
    for entry in entries(group):
        loaded = load(entry, problem)
        if isinstance(loaded, Broken):
            broken.append(loaded)
            continue
        name = entry.name if by_entry else loaded.name
        if name in known:
            owner = "CrossXAI" if name in own else known[name].__module__
            reason = f"{name!r} is a name that {owner} uses already: choose another"
            broken.append(Broken(entry.name, _package(entry), reason))
        else:
            known[name] = loaded
    return tuple(broken)


@cache
def classes(group: str, methods: tuple[str, ...]) -> tuple[dict[str, type[Any]], tuple[Broken, ...]]:
    """The classes of an entry-point group by their `name`, all with these methods, and the plug-ins that cannot be used."""

    def problem(kind: Any) -> str:
        if not (inspect.isclass(kind) and isinstance(getattr(kind, "name", None), str)):
            return "is no class with a name: name: ClassVar[str] = '…'"
        missing = [method for method in methods if not callable(getattr(kind, method, None))]
        return f"class {kind.__name__} lacks {', '.join(missing)}" if missing else ""

    known: dict[str, type[Any]] = {}
    return known, add(group, known, problem)


def name_and_params(given: Any, example: str) -> tuple[Any, dict[str, Any]]:
    """The name and parameters of "name", ("name", {…}) or {"name": …, parameter: …}; anything else takes the place of a name."""
    if isinstance(given, Mapping) and "name" in given:
        return given["name"], {key: value for key, value in given.items() if key != "name"}
    if isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[1], Mapping):
        return given[0], dict(given[1])
    if isinstance(given, Mapping | tuple | list):
        raise InvalidInput(
            f'write "{example}", ("{example}", {{"parameter": value}}) or {{"name": "{example}", …}}, got {given!r}'
        )
    return given, {}


@cache
def code_of(kind: type[Any]) -> str:
    """The hash of the file that holds somebody else's explainer or metric class, as it was when first asked for; "" of our own,
    and of code that no file holds. Who edits it without a new version has other maps and scores."""
    if kind.__module__.partition(".")[0] == "crossxai":
        return ""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return ""


RAISED = (Exception, SystemExit)
"""What a user's own code may raise, exceptions of its own and `sys.exit` among it: one model's end, not the run's. Ctrl-C is not
among it."""


def call_factory(factory: str, folder: Path, kind: type[CrossXAIError]) -> Any:
    """What a function of the user's returns; its module is looked for beside the experiment file first, or is a file's path. What
    its own code raises becomes an error of this kind, which says where."""
    module, _, name = factory.rpartition(":")
    if not module or not name:
        raise InvalidInput(
            f"a factory is written 'package.module:function' or 'path/file.py:function', got {factory!r}"
        )
    path = folder / module if module.endswith(".py") else None
    folder = (folder if path is None else path.parent).resolve()
    sys.path.insert(0, str(folder))
    try:
        function = getattr(importlib.import_module(module) if path is None else _of_file(path), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InvalidInput(
            f"factory {factory!r} cannot be imported from {folder} or the environment: {error}"
        ) from error
    except RAISED as error:
        raise InvalidInput(f"factory {factory!r} cannot be imported: its module raises {_where(error)}") from error
    finally:
        sys.path.remove(str(folder))
    if not callable(function):
        raise InvalidInput(f"factory {factory!r} is {type(function).__name__}, not a function")
    try:
        return guarded(function, f"factory {factory!r}", kind)
    except CrossXAIError as error:
        if isinstance(error, kind) or kind is not ModelFailed:
            raise
        raise kind(f"factory {factory!r}: {error}") from error  # of one model: the others go on


def _of_file(path: Path) -> ModuleType:
    """The module of a file, under a name of its own: a folder beside may have one called alike."""
    name = f"{path.stem}_{zlib.crc32(str(path.resolve()).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look there
    spec.loader.exec_module(module)
    return module


def guarded(function: Callable[[], Any], name: str, kind: type[CrossXAIError]) -> Any:
    """What a function of the user's returns; what its own code raises becomes an error of this kind, which says where."""
    try:
        return function()
    except CrossXAIError:
        raise
    except RAISED as error:
        raise kind(f"{name} raises {_where(error)}") from error


def _where(error: BaseException) -> str:
    """An error in words, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{in_words(error)}{place}"


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
