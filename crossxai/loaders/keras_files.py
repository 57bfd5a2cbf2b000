"""Keras models from `.keras`, `.h5` and SavedModel: architectures and weights are read, code is not run."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from crossxai.errors import LONGEST, InvalidFile, InvalidInput, in_words
from crossxai.loaders.loaded import TRUST, Loaded, require_safe
from crossxai.process import foreign, require

SUFFIXES = (".keras", ".h5", ".hdf5")


def load(path: Path, trust: bool) -> Loaded:
    """The model of a file, in Keras' safe mode without trust; raises `InvalidFile` or `InvalidInput`."""
    keras = require("keras", "tensorflow", f"reading {path.name}")
    require_safe("keras", path, trust)
    if not trust and (code := list(_layers_of_code(_config(path)))):
        raise InvalidInput(
            f"{path} holds code, the layer {', '.join(map(repr, code))} of class Lambda, which loading would run. If you trust "
            f"who made the file: {TRUST}"
        )
    raised: tuple[type[Exception], ...] = (*foreign(), OSError, UserWarning)
    from crossxai.porting import keras_layers as _known  # noqa: F401 - layers of networks that were brought to Keras by `port`

    try:
        with warnings.catch_warnings():  # Keras only warns where layers keep the weights that were drawn
            warnings.filterwarnings("error", "Skipping nested container", UserWarning)
            net = keras.saving.load_model(path, compile=False, safe_mode=not trust)
    except raised as error:
        innermost = " ".join(str(error).rpartition("Exception encountered: ")[2].split())
        reason = f"{type(error).__name__}: {innermost[:LONGEST]}"
        raise InvalidFile(
            f"Keras cannot read {path}: {reason}; of layers of your own write a function that returns the model, "
            "package.module:function"
        ) from error
    return Loaded(net, net.name, (f"from {path.name}; layers inside scale its inputs, if any do",))


def load_folder(path: Path, trust: bool) -> Loaded:
    """The SavedModel of a folder, by its signature `serving_default`; gradients flow, layers cannot be read."""
    if not trust:
        raise InvalidInput(
            f"{path} is a SavedModel, a program of TensorFlow whose operators can read and write files when it runs. If you "
            f"trust who made it: {TRUST}"
        )
    keras = require("keras", "tensorflow", f"reading {path.name}")
    tensorflow = require("tensorflow", "tensorflow", f"reading {path.name}")
    raised: tuple[type[Exception], ...] = (*foreign(), OSError)
    try:
        signature = tensorflow.saved_model.load(str(path)).signatures["serving_default"]
        taken = list(signature.structured_input_signature[1].values())
        if len(taken) != 1:
            raise InvalidInput(
                f"{path} takes {len(taken)} inputs: write a function that returns the model, package.module:function"
            )
        layer = keras.layers.TFSMLayer(str(path), call_endpoint="serving_default")
        start = keras.Input(tuple(taken[0].shape)[1:], name="image" if taken[0].shape.rank == 4 else "table")
        given = layer(start)
        net = keras.Model(start, next(iter(given.values())) if isinstance(given, dict) and len(given) == 1 else given)
    except InvalidInput:
        raise
    except raised as error:
        raise InvalidFile(f"TensorFlow cannot read {path}: {in_words(error)}") from error
    return Loaded(net, path.name, (f"a SavedModel from {path.name}, trusted",))


def _config(path: Path) -> Any:
    """The architecture of a file; None where there is none to be read."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        with h5py.File(path) as file:
            return json.loads(file.attrs["model_config"])
    except KeyError as error:
        if path.suffix.lower() != ".keras" and not zipfile.is_zipfile(path):
            raise InvalidFile(
                f"{path} holds no model (weights alone, perhaps): write keras:NAME@{path.name} for a network of Keras, or a "
                "function that makes the model and loads them, package.module:function"
            ) from error
        raise InvalidFile(f"{path} holds no Keras model") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidFile(f"Keras cannot read {path}, which is no file of it, or damaged: {in_words(error)}") from error


def _layers_of_code(config: Any) -> Iterator[str]:
    """The names of the Lambda layers of an architecture."""
    if isinstance(config, dict):
        if config.get("class_name") == "Lambda":
            inner = config.get("config")
            yield str((inner if isinstance(inner, dict) else config).get("name", "?"))
        for value in config.values():
            yield from _layers_of_code(value)
    elif isinstance(config, list):
        for value in config:
            yield from _layers_of_code(value)
