"""Weights of PyTorch from files, read without running code from them, and networks that take them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crossxai.errors import InvalidFile, InvalidInput, in_words
from crossxai.loaders.loaded import TRUST, require_safe
from crossxai.process import foreign, require, streams_kept

NESTED = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the weights among other things."""


def content(path: Path, trust: bool) -> Any:
    """What a file of torch holds; without trust, tensors and plain values alone."""
    torch = require("torch", "torch", f"reading {path.name}")
    require_safe("torch", path, trust)
    damaged: tuple[type[Exception], ...] = (*foreign(), OSError, EOFError, ImportError)
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust:
            raise InvalidFile(f"torch cannot read {path}: {in_words(error)}") from error
        raise InvalidInput(
            f"{path} holds more than weights, such as a whole pickled module, and reading it would run code from the file. Save "
            f"the weights alone, torch.save(net.state_dict(), …); or, if you trust who made it: {TRUST}"
        ) from error
    except damaged as error:
        raise InvalidFile(f"torch cannot read {path}: {in_words(error)}") from error


def _safetensors(path: Path) -> Any:
    require("torch", "torch", f"reading {path.name}")
    safetensors = require("safetensors", "huggingface", f"reading {path.name}")
    damaged: tuple[type[Exception], ...] = (safetensors.SafetensorError, OSError)
    try:
        return require("safetensors.torch", "huggingface", f"reading {path.name}").load_file(path)
    except damaged as error:
        raise InvalidFile(f"safetensors cannot read {path}: {in_words(error)}") from error


def state_dict(path: Path, trust: bool) -> dict[str, Any]:
    """The weights of a file by name; raises `InvalidFile` if it holds none."""
    if not path.is_file():
        raise InvalidFile(f"no file of weights at {path}")
    given = _safetensors(path) if path.suffix.lower() == ".safetensors" else content(path, trust)
    given = given.state_dict() if hasattr(given, "state_dict") else given
    for key in NESTED:
        if isinstance(given, Mapping) and isinstance(given.get(key), Mapping):
            given = given[key]
    if not isinstance(given, Mapping) or not given or not all(hasattr(value, "shape") for value in given.values()):
        raise InvalidFile(f"{path} holds no weights by name (a state_dict), but {_kind(given)}")
    return dict(given)


def _kind(given: Any) -> str:
    return (
        f"a dict of {', '.join(map(str, list(given)[:5])) or 'nothing'}"
        if isinstance(given, Mapping)
        else type(given).__name__
    )


@contextmanager
def drawn_by_seed() -> Iterator[None]:
    """torch's generator starts from seed 0 inside, and goes on as before afterwards."""
    torch = require("torch", "torch", "a network of PyTorch")
    with streams_kept():
        torch.manual_seed(0)
        yield


def filled(
    build: Callable[[int | None], Any], weights: Mapping[str, Any], source: str, architecture: str
) -> tuple[Any, int | None]:
    """A network with these weights, and their number of classes where it is not its own; build makes it with so many.

    Raises `InvalidFile` with what differs where the weights are those of another network.
    """
    with drawn_by_seed():
        net = build(None)
        weights = _unprefixed(weights, net.state_dict())
        n = _classes(weights, net.state_dict())
        if n is not None:
            net = build(n)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise InvalidFile(
            f"the weights of {source} are not those of {architecture}: {_differences(weights, net)}"
        ) from error
    return net, n


def _unprefixed(weights: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Names without the word that a wrapper puts before all of them, such as `module.` of DataParallel."""
    if not own.keys() & weights.keys() and len(prefixes := {name.partition(".")[0] for name in weights}) == 1:
        (prefix,) = prefixes
        return {name.removeprefix(f"{prefix}."): value for name, value in weights.items()}
    return weights


def _classes(weights: Mapping[str, Any], own: Mapping[str, Any]) -> int | None:
    """How many classes the weights have, where that is all that parts them from the network's own."""
    others = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    counts = {
        int(weights[name].shape[0]) for name in others if weights[name].ndim == own[name].ndim and weights[name].ndim
    }
    return counts.pop() if len(counts) == 1 else None


def _differences(weights: Mapping[str, Any], net: Any) -> str:
    own = net.state_dict()
    groups = {
        "missing": [name for name in own if name not in weights],
        "unknown": [name for name in weights if name not in own],
        "of another shape": [name for name in own if name in weights and weights[name].shape != own[name].shape],
    }
    return "; ".join(
        f"{len(names)} {word} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for word, names in groups.items()
        if names
    )
