"""Networks of timm by name, with the data configuration of their weights."""

from __future__ import annotations

import math
import pickle
from functools import partial
from pathlib import Path
from typing import Any

from crossxai.errors import InvalidFile, UnknownName, in_words
from crossxai.loaders.loaded import RANDOM, RANDOM_WEIGHTS, Loaded, Resize
from crossxai.loaders.torch_weights import drawn_by_seed, filled, state_dict
from crossxai.process import foreign, require


def load(name: str, weights: str, folder: Path, trust: bool) -> Loaded:
    """A network by name, with a tag such as `.augreg_in1k` or without. weights: a file of them, "random", or "" for timm's own,
    which are downloaded once."""
    timm = require("timm", "timm", "a network of timm")
    if not timm.is_model(name):
        raise UnknownName("network of timm", name, timm.list_models())
    count, source = None, RANDOM_WEIGHTS
    if not weights:
        net, source = _downloaded(timm, name), "weights: timm's own"
    elif weights == RANDOM:
        with drawn_by_seed():
            net = timm.create_model(name, pretrained=False)
    else:
        path = folder / weights
        net, count = filled(partial(_build, timm, name), state_dict(path, trust), str(path), f"timm's {name}")
        source = f"weights: {path.name}" + (f", of {count} classes" if count else "")
    asked = timm.data.resolve_model_data_config(net)
    return Loaded(
        net.eval(),
        name,
        (source, f"preprocessing: that of timm's {name} unless declared otherwise"),
        resize(asked),
        (tuple(asked["mean"]), tuple(asked["std"])),
        () if count else _classes(timm, net),
        size=(int(asked["input_size"][1]), int(asked["input_size"][2])),
        options={"outputs": "logits"},  # of all networks of timm
        random=weights == RANDOM,
    )


def resize(asked: dict[str, Any]) -> Resize | None:
    """How timm's data configuration brings pictures to a network; None where it pads them, or takes no square."""
    _, height, width = asked["input_size"]
    to = math.floor(height / asked["crop_pct"]), math.floor(width / asked["crop_pct"])
    mode = asked.get("crop_mode") or "center"
    if mode == "border" or (mode == "center" and to[0] != to[1]):
        return None
    return Resize(to if mode == "squash" else to[0], (height, width), asked["interpolation"])


def _build(timm: Any, name: str, classes: int | None) -> Any:
    return timm.create_model(name, pretrained=False, **({} if classes is None else {"num_classes": classes}))


def _downloaded(timm: Any, name: str) -> Any:
    raised: tuple[type[Exception], ...] = (*foreign(), OSError, pickle.UnpicklingError)
    try:
        return timm.create_model(name, pretrained=True)
    except raised as error:
        raise InvalidFile(
            f"the weights of timm's {name} cannot be had ({in_words(error)}): write timm:{name}@FILE for weights of a file, "
            f"timm:{name}@{RANDOM} for random ones"
        ) from error


def _classes(timm: Any, net: Any) -> tuple[str, ...]:
    """The names of the classes of an ImageNet that timm knows; () of other networks."""
    subset = timm.data.infer_imagenet_subset(net)
    if not subset:
        return ()
    known = timm.data.ImageNetInfo(subset)
    return tuple(known.index_to_description(place) for place in range(known.num_classes()))
