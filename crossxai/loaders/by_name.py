"""From a name or a path to a network: which library or format it is of."""

from __future__ import annotations

import difflib
import importlib
import re
from dataclasses import replace
from pathlib import Path

from crossxai import plugins
from crossxai.errors import CrossXAIError, InvalidFile, InvalidInput, ModelFailed, UnknownName
from crossxai.loaders import huggingface, keras_files, onnx, torch_files
from crossxai.loaders.loaded import Loaded

LIBRARIES = {"torchvision": "torchvision", "timm": "timm", "hf": "huggingface", "keras": "keras_applications"}
"""Libraries whose networks are written `library:name` or `library:name@weights`, and the file here that loads them."""
WRITE = (
    "write library:name such as torchvision:resnet18, a file of a model, package.module:function or file.py:function"
)


def load(given: str | Path, folder: Path = Path(), trust: bool = False) -> Loaded:
    """The network of a name or a path.

    given: `library:name`, `library:name@weights` (a file, or names that the library has), the path of a model, or
    `package.module:function` or `path/file.py:function`. folder: what paths are relative to. trust: whether files may run code of
    their own. Raises `InvalidFile`, `InvalidInput`, `UnknownName`, `ModelFailed` or `MissingDependency`, with what to write.
    """
    text = str(given)
    library, colon, rest = text.partition(":")
    if colon and library in LIBRARIES:
        name, _, weights = rest.partition("@")
        loader = importlib.import_module(f"crossxai.loaders.{LIBRARIES[library]}")
        loaded: Loaded = loader.load(name, weights, folder, trust)
        return loaded
    path = folder / Path(text).expanduser()
    if path.exists():
        return _of_file(path, trust)
    if (own := re.fullmatch(r"(.+\.py):[A-Za-z_]\w*", text)) is not None:
        if not (folder / Path(own[1]).expanduser()).is_file():
            raise _unknown(own[1], folder / own[1])
        return replace(_of_function(text, folder), name=Path(own[1]).stem)
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text):
        return _of_function(text, folder)
    raise _unknown(text, path)


def _of_file(path: Path, trust: bool) -> Loaded:
    suffix = path.suffix.lower()
    if (path / "saved_model.pb").is_file():
        return keras_files.load_folder(path, trust)
    if (path / "config.json").is_file():
        return huggingface.load(str(path), "", Path(), trust)
    if path.is_dir():
        raise InvalidInput(
            f"{path} is a folder without saved_model.pb (TensorFlow) or config.json (Hugging Face): {WRITE}"
        )
    if suffix == ".onnx":
        return onnx.load(path)
    if suffix in keras_files.SUFFIXES:
        return keras_files.load(path, trust)
    if suffix in torch_files.SUFFIXES:
        return torch_files.load(path, trust)
    if suffix == ".py":
        raise InvalidInput(
            f"{path.name} is a file of Python: write which of its functions gives the network, {path.name}:load"
        )
    if suffix == ".npz":
        raise InvalidInput(
            f"{path.name} is no network that wrap reads; a checkpoint of `crossxai train` goes into an experiment file"
        )
    known = ", ".join((*keras_files.SUFFIXES, *torch_files.SUFFIXES, ".onnx"))
    raise InvalidInput(f"{path.name}: a model's file ends with {known}; {WRITE}")


def _of_function(name: str, folder: Path) -> Loaded:
    """What a function of the user's returns; a misspelt library is told from a module that is not there."""
    module, _, function = name.partition(":")
    try:
        net = plugins.call_factory(name, folder, ModelFailed)
    except InvalidInput as error:
        near = difflib.get_close_matches(module, LIBRARIES, n=1, cutoff=0.6)
        if near and isinstance(error.__cause__, ModuleNotFoundError):
            raise UnknownName("library of networks", module, LIBRARIES, [f"write {near[0]}:{function}"]) from error
        raise
    return Loaded(net, function)


def _unknown(text: str, path: Path) -> CrossXAIError:
    if path.suffix or "/" in text or "\\" in text:
        there = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, there, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return InvalidFile(f"{path} does not exist{hint}")
    return InvalidInput(f"no model is called {text!r}, and there is no such file: {WRITE}")
