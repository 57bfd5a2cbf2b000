"""Networks of torchvision by name, for classes and for segmentation, with the preprocessing of their weights."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from crossxai.errors import InvalidFile, InvalidInput, UnknownName, in_words
from crossxai.loaders.loaded import RANDOM, RANDOM_WEIGHTS, Loaded, Resize
from crossxai.loaders.torch_weights import drawn_by_seed, filled, state_dict
from crossxai.process import require

AUXILIARY = ("aux_classifier.", "AuxLogits.", "aux1.", "aux2.")
"""Heads that networks have in training alone."""
OF_WEIGHTS = ("googlenet", "inception_v3")
"""Networks that scale their inputs once more if their weights ask for it, which no file of weights says."""


def load(name: str, weights: str, folder: Path, trust: bool) -> Loaded:
    """A network by name. weights: a file of them, the name of torchvision's own, such as IMAGENET1K_V2, "random", or "" for
    torchvision's best, which are downloaded once."""
    models = require("torchvision", "torch", "a network of torchvision").models
    known = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
    if name not in known:
        raise UnknownName("network of torchvision", name, known)
    own = models.get_model_weights(name)
    entry = own[weights] if weights in own.__members__ else own.DEFAULT
    if entry.meta["categories"] is None:
        raise InvalidInput(
            f"torchvision's {entry.name} of {name} hold no trained classifier: write {name}@{own.DEFAULT.name}"
        )
    build = partial(_build, models.get_model_builder(name), entry)
    count = None
    if weights == RANDOM:
        with drawn_by_seed():
            net = build(None)
        source = RANDOM_WEIGHTS
    elif not weights or weights in own.__members__:
        net, _ = filled(build, _without_auxiliary(_downloaded(name, entry)), entry.name, f"torchvision's {name}")
        source = f"weights: {entry.name} of torchvision"
    else:
        path = folder / weights
        if not path.exists() and not path.suffix:
            raise UnknownName(f"file, or torchvision's weights of {name},", weights, [*own.__members__, RANDOM])
        if name in OF_WEIGHTS:
            raise InvalidInput(
                f"torchvision's {name} scales its inputs or not (transform_input), which {path.name} does not say: write a "
                "function that makes it, package.module:function"
            )
        net, count = filled(build, _without_auxiliary(state_dict(path, trust)), str(path), f"torchvision's {name}")
        source = f"weights: {path.name}" + (f", of {count} classes" if count else "")
    asked = entry.transforms()
    return Loaded(
        net,
        name,
        (source, f"preprocessing: that of torchvision's {entry.name} unless declared otherwise"),
        resize(asked),
        (tuple(asked.mean), tuple(asked.std)),
        () if count else tuple(entry.meta["categories"]),
        options={"outputs": "logits"},  # of all networks of torchvision
        random=weights == RANDOM,
    )


def resize(asked: Any) -> Resize:
    """How torchvision's preprocessing (`weights.transforms()`) brings pictures to a network."""
    (to,), cut = asked.resize_size, getattr(asked, "crop_size", None)
    return Resize(to, None if cut is None else (cut[0], cut[0]), asked.interpolation.value)


def _build(builder: Any, entry: Any, classes: int | None) -> Any:
    """A network without trained weights, in the shape that these weights ask for."""
    takes = inspect.signature(builder).parameters
    given: dict[str, Any] = {"num_classes": classes or len(entry.meta["categories"])}
    if "weights_backbone" in takes:
        given["weights_backbone"] = None  # torchvision would download it
    if builder.__name__ in OF_WEIGHTS:
        given |= {"aux_logits": False, "init_weights": False, "transform_input": True}
    if builder.__name__.startswith("vit_"):
        given["image_size"] = entry.meta["min_size"][0]
    return builder(weights=None, **given).eval()


def _downloaded(name: str, entry: Any) -> Mapping[str, Any]:
    """torchvision's own weights, from its cache or downloaded."""
    try:
        weights: Mapping[str, Any] = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise InvalidFile(
            f"the weights {entry.name} of torchvision's {name} cannot be had ({in_words(error)}): write torchvision:{name}@FILE "
            f"for weights of a file, torchvision:{name}@{RANDOM} for random ones"
        ) from error
    return weights


def _without_auxiliary(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in weights.items() if not name.startswith(AUXILIARY)}
