"""Functions on TensorFlow tensors as graphs, made once per kind of request and anew when the model has changed: a trace holds
was read from Python while tracing, a snapshot of all that tells when it is out of date; weights are read at every run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from operator import is_
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from crossxai.errors import CrossXAIError
from crossxai.process import foreign

LIBRARIES = frozenset({
    *("keras", "tensorflow", "numpy", "torch", "optree", "ml_dtypes", "builtins", "_thread", "threading", "abc"),
})  # fmt: skip
"""Libraries whose objects and functions are compared by identity; layers are looked into."""
VALUES = (bool, int, float, complex, str, bytes, np.generic, np.dtype)
MOST = 20_000
"""How many objects are looked into."""

Parts = list[Any]


class Snapshot:
    """Everything that is reachable from a model and can change: attributes of layers and of plain objects, items of lists and
    dicts, arrays, functions with their closures and the globals that they name, methods of the user's classes."""

    def __init__(self, model: Any) -> None:
        self._parts: list[tuple[Callable[[], Parts], Parts]] = []
        seen: set[int] = set()
        ahead = [model]
        while ahead and len(seen) < MOST:
            item = ahead.pop()
            if id(item) in seen or isinstance(item, VALUES) or item is None:
                continue
            seen.add(id(item))
            parts = _reader(item)
            if parts is not None:
                now = parts()
                if not isinstance(item, tuple):
                    self._parts.append((parts, now))
                ahead += _descended(item, now)

    def holds(self) -> bool:
        """Whether nothing has changed; a replaced value is the same if it is an equal number or word."""
        return all(_same(parts(), before) for parts, before in self._parts)


def _same(now: Parts, before: Parts) -> bool:
    if len(now) != len(before):
        return False
    return all(map(is_, now, before)) or all(
        a is b or (isinstance(a, VALUES) and type(a) is type(b) and bool(a == b))
        for a, b in zip(now, before, strict=True)
    )


def _reader(item: Any) -> Callable[[], Parts] | None:
    """A function that gives what an object is made of; None if it is compared by identity."""
    if isinstance(item, keras.layers.Layer):
        kind, attributes = type(item), vars(item)
        return lambda: [kind, *attributes.values()]
    if isinstance(item, dict):
        return lambda: [*item, *item.values()]
    if isinstance(item, list | tuple | set | frozenset):
        return lambda: list(item)
    if isinstance(item, np.ndarray):
        return lambda: [zlib.crc32(_contents(item)), item.shape, item.dtype.str]
    if isinstance(item, FunctionType):
        return None if _of_library(item.__module__) else _function(item)
    if isinstance(item, MethodType | staticmethod | classmethod):
        return lambda: [item.__func__, getattr(item, "__self__", None)]
    if isinstance(item, property):
        return lambda: [item.fget]
    if isinstance(item, partial):
        return lambda: [item.func, *item.args, *item.keywords.values()]
    if isinstance(item, type):
        return None if _of_library(item.__module__) else lambda: [*item.__mro__, *vars(item).values()]
    if isinstance(item, ModuleType) or _of_library(type(item).__module__):
        return None
    slots = [s for kind in type(item).__mro__ for s in getattr(kind, "__slots__", ()) if s != "__dict__"]
    if slots:
        return lambda: [*getattr(item, "__dict__", {}).values(), *(getattr(item, s, None) for s in slots)]
    attributes = getattr(item, "__dict__", None)
    return (lambda: list(attributes.values())) if isinstance(attributes, dict) else None


def _descended(item: Any, parts: Parts) -> Iterable[Any]:
    """Keras's own notes about a layer, such as where it was called, are compared by identity."""
    if not isinstance(item, keras.layers.Layer):
        return parts
    attributes = [value for name, value in vars(item).items() if name not in _bookkeeping()]
    return [type(item), *item._layers, *attributes]


@cache
def _bookkeeping() -> frozenset[str]:
    symbol = keras.Input((1,))
    own = {*vars(keras.layers.Layer()), *vars(keras.Model(symbol, symbol)), *vars(keras.Sequential())}
    return frozenset(own - {"_layers"})


def _contents(values: Any) -> bytes:
    return values.tobytes() if values.dtype != object else repr(values).encode()


def _function(function: Any) -> Callable[[], Parts]:
    """The code, what a closure holds, defaults, and the globals of the names in the code; of modules, their numbers alone."""
    names = _names(function.__code__)

    def parts() -> Parts:
        values: Parts = [function.__code__, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for cell in function.__closure__ or ():
            try:
                values.append(cell.cell_contents)
            except ValueError:  # not filled yet
                values.append(None)
        for name in names:
            value = function.__globals__.get(name)
            if isinstance(value, ModuleType):
                inside = [vars(value).get(n) for n in names]
                values += [v for v in inside if isinstance(v, VALUES)]
            else:
                values.append(value)
        return values

    return parts


def _names(code: CodeType) -> tuple[str, ...]:
    inner = (name for const in code.co_consts if isinstance(const, CodeType) for name in _names(const))
    return tuple(dict.fromkeys((*code.co_names, *inner)))


def _of_library(module: str | None) -> bool:
    return module is None or module.partition(".")[0] in LIBRARIES


Key = tuple[str, tuple[tuple[int | None, ...], ...]]


class NeedsSamples(Exception):
    """Raised while tracing by a function that has to know the number of samples."""


class Traces:
    """The traced functions of a model.

    A graph is for any number of samples; for the number at hand if the model's code needs to know it. What cannot be traced
    (control flow on values, a detour through NumPy) runs eagerly, every time; so does everything if `eager`.
    """

    def __init__(self, model: Any, eager: bool = False) -> None:
        self._model, self._eager = model, eager
        self._cache: dict[Key, Any] = {}
        self._snapshot: Snapshot | None = None
        self._version = 0

    def version(self) -> int:
        """A number that changes when the model has changed since the last call."""
        self._refresh()
        self._snapshot = self._snapshot or Snapshot(self._model)
        return self._version

    def run(self, kind: str, function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
        """function(*tensors), by a graph if there can be one. kind: names the function; tensors: the sample axis first."""
        if self._eager:
            return function(*tensors)
        self._refresh()
        for known in (False, True):
            specs = [tf.TensorSpec(tuple(t.shape) if known else (None, *t.shape[1:]), t.dtype) for t in tensors]
            key = kind, tuple(tuple(s.shape) for s in specs)
            if key not in self._cache:
                self._cache[key] = _traced(function, specs)
                self._snapshot = Snapshot(self._model)
            if self._cache[key] is not None:
                return self._cache[key](*tensors)
        return function(*tensors)

    def graph(self, kind: str, function: Callable[..., Any], tensors: Sequence[Any]) -> Any | None:
        """The graph that `run` would run, for any number of samples; None if there can be none."""
        self.run(kind, function, tensors)
        return self._cache.get((kind, tuple((None, *t.shape[1:]) for t in tensors)))

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """make(), kept until the model changes."""
        self._refresh()
        if (key, ()) not in self._cache:
            self._cache[key, ()] = make()
            self._snapshot = self._snapshot or Snapshot(self._model)
        return self._cache[key, ()]

    def _refresh(self) -> None:
        if self._snapshot is not None and not self._snapshot.holds():
            self.forget()

    def forget(self) -> None:
        """Trace everything anew at the next request."""
        self._cache.clear()
        self._snapshot = None
        self._version += 1


def _traced(function: Callable[..., Any], specs: Sequence[Any]) -> Any:
    """The graph for tensors of these shapes; None if the model's code does not allow one."""
    # autograph would rewrite the hooks' Python control flow, which runs once, while tracing.
    traced = tf.function(function, autograph=False)
    refused: tuple[type[Exception], ...] = (NeedsSamples, *foreign())
    try:
        return traced.get_concrete_function(*specs)
    except CrossXAIError:
        raise
    except refused:  # what is wrong with the model itself, an eager run will say
        return None
