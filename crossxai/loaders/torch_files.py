"""Whole networks of PyTorch from files: pickled modules, TorchScript, torch.export. All three are programs, which need trust."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossxai.errors import InvalidFile, InvalidInput, in_words
from crossxai.loaders.loaded import TRUST, Loaded, image_of
from crossxai.loaders.torch_weights import content, state_dict
from crossxai.process import foreign, require

SUFFIXES = (".pt", ".pth", ".pt2", ".bin", ".ckpt", ".safetensors")


def load(path: Path, trust: bool) -> Loaded:
    """The network of a file, which its content tells from weights alone; raises `InvalidInput` or `InvalidFile`."""
    entries = _entries(path)
    if any(name.endswith("/archive_format") or name == "archive_format" for name in entries):
        return _exported(path, trust)
    if any("/code/" in name for name in entries):
        return _script(path, trust)
    net = content(path, trust) if path.suffix.lower() != ".safetensors" else state_dict(path, trust)
    if isinstance(net, Mapping):
        raise InvalidInput(
            f"{path.name} holds weights alone: say of which network, torchvision:NAME@{path.name}, or write a function that "
            "makes it and loads them, package.module:function"
        )
    if not callable(getattr(net, "eval", None)):
        raise InvalidFile(f"{path} holds {type(net).__name__}, no module of torch")
    return Loaded(net.eval(), path.stem, (f"a pickled module from {path.name}, trusted",))


def _entries(path: Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _untrusted(path: Path, kind: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{path} is {kind}, {reason}. If you trust who made the file: {TRUST}")


def _script(path: Path, trust: bool) -> Loaded:
    if not trust:
        raise _untrusted(path, "TorchScript", "a program whose operators can read and write files when it runs")
    torch = require("torch", "torch", f"reading {path.name}")
    damaged: tuple[type[Exception], ...] = (*foreign(), OSError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch would rather read torch.export
            net = torch.jit.load(path, map_location="cpu").eval()
    except damaged as error:
        raise InvalidFile(f"torch cannot read {path}: {in_words(error)}") from error
    first = next((w for w in net.parameters() if w.ndim == 4), None)
    modalities = None if first is None else (image_of(int(first.shape[1])),)
    return Loaded(net, path.stem, (f"TorchScript from {path.name}, trusted",), modalities=modalities)


def _exported(path: Path, trust: bool) -> Loaded:
    if not trust:
        raise _untrusted(
            path, "a program of torch.export", "whose tensors and constants torch reads by unpickling them"
        )
    torch = require("torch", "torch", f"reading {path.name}")
    damaged: tuple[type[Exception], ...] = (*foreign(), OSError)
    try:
        program = torch.export.load(path)
    except damaged as error:
        raise InvalidFile(f"torch cannot read {path}: {in_words(error)}") from error
    return of_program(program, path.stem, f"torch.export from {path.name}, trusted")


def of_program(program: Any, name: str = "", told: str = "a program of torch.export") -> Loaded:
    """The network of a torch.export.ExportedProgram; raises `InvalidInput` where it takes one number of samples alone."""
    names = program.graph_signature.user_inputs
    shapes = {
        n.name: tuple(n.meta["val"].shape) for n in program.graph.nodes if n.op == "placeholder" and n.name in names
    }
    fixed = [name for name, shape in shapes.items() if isinstance(shape[0], int)]
    if fixed:
        raise InvalidInput(
            f"{name or 'the program'} was exported for batches of exactly {shapes[fixed[0]][0]}: export it with dynamic_shapes={{"
            f"{fixed[0]!r}: {{0: torch.export.Dim('batch')}}}}"
        )
    modalities, size = None, None
    if len(shapes) == 1 and len(shape := next(iter(shapes.values()))) == 4:
        modalities = (image_of(int(shape[1])),)
        size = (int(shape[2]), int(shape[3])) if all(isinstance(side, int) for side in shape[2:]) else None
    return Loaded(program.module(), name or "program", (told,), modalities=modalities, size=size)
