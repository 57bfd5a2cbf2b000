"""Networks of keras.applications by name, with the preprocessing of their modules."""

from __future__ import annotations

import inspect
import random
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crossxai.errors import InvalidFile, UnknownName, Unsupported, in_words
from crossxai.loaders.loaded import RANDOM, RANDOM_WEIGHTS, Loaded
from crossxai.process import foreign, require, streams_kept


def load(name: str, weights: str, folder: Path, trust: bool) -> Loaded:
    """A network by name, without its softmax. weights: a file of them (.h5), "random", or "" or "imagenet" for Keras' own, which
    are downloaded once."""
    keras = require("keras", "tensorflow", "a network of Keras")
    made = {key: value for key, value in vars(keras.applications).items() if inspect.isfunction(value)}
    if name not in made:
        raise UnknownName("network of Keras", name, made)
    builder = made[name]
    if weights in ("", "imagenet"):
        net, source = _downloaded(builder, name), "weights: imagenet of Keras"
    elif weights == RANDOM:
        net, source = _drawn(builder), RANDOM_WEIGHTS
    else:
        net, source = _filled(builder, name, folder / weights)
    mean, sd, turned = preprocessing(net, sys.modules[builder.__module__].preprocess_input)
    told = [
        source,
        f"preprocessing: that of Keras' {name} unless declared otherwise",
        "the last layer's softmax is left out",
    ]
    if turned:
        told.append("the first layer's colours were turned, so that it takes red first: Keras' weights take blue first")
    return Loaded(net, name, tuple(told), None, (mean, sd), options={"outputs": "logits"}, random=weights == RANDOM)


def _downloaded(builder: Any, name: str) -> Any:
    raised: tuple[type[Exception], ...] = (*foreign(), OSError)
    try:
        with warnings.catch_warnings():
            # MobileNet says that it takes the weights of its default size, which is asked for
            warnings.filterwarnings("ignore", ".*will be loaded as the default", UserWarning)
            return builder(weights="imagenet", classifier_activation=None)
    except Exception as error:
        # a download that fails is a plain Exception in Keras, a class that no narrower word catches
        if type(error) is not Exception and not isinstance(error, raised):
            raise
        raise InvalidFile(
            f"the weights of Keras' {name} cannot be had ({in_words(error)}): write keras:{name}@FILE for weights of a file, "
            f"keras:{name}@{RANDOM} for random ones"
        ) from error


def _drawn(builder: Any, **options: Any) -> Any:
    with streams_kept():
        random.seed(0)  # whence Keras draws the seeds of its initialisers
        return builder(weights=None, classifier_activation=None, **options)


def _filled(builder: Any, name: str, path: Path) -> tuple[Any, str]:
    """A network with the weights of a file, and where they come from in words."""
    if not path.is_file():
        raise InvalidFile(f"no file of weights at {path}: write a file, imagenet, or {RANDOM}")
    raised: tuple[type[Exception], ...] = (*foreign(), OSError, UserWarning)
    try:
        count = _classes(path)
        net = _drawn(builder, **({"classes": count} if count else {}))
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", UserWarning
            )  # Keras only warns where layers keep the weights that were drawn
            net.load_weights(path)
    except raised as error:
        raise InvalidFile(f"the weights of {path} are not those of Keras' {name}: {in_words(error)}") from error
    return net, f"weights: {path.name}, of {net.output_shape[-1]} classes"


def _classes(path: Path) -> int | None:
    """How many classes a file's last dense layer has; None where it does not say."""
    sizes: dict[str, int] = {}

    def look(name: str, held: Any) -> None:
        if isinstance(held, h5py.Dataset) and held.ndim == 1 and re.search(r"predictions|dense(_\d+)?/vars", name):
            sizes[name] = int(held.shape[0])

    with h5py.File(path) as file:
        file.visititems(look)
    last = max(sizes, key=lambda name: [int(part) for part in re.findall(r"dense_(\d+)", name)], default=None)
    return None if last is None else sizes[last]


def preprocessing(net: Any, preprocess: Any) -> tuple[list[float], list[float], bool]:
    """(mean, sd) of images from 0 to 1 that do what Keras' function does with values from 0 to 255. Of networks that take blue
    first, the first layer's colours are turned, which the last value says."""
    black = np.asarray(preprocess(np.zeros((1, 1, 1, 3), np.float32)), np.float64).reshape(3)
    single = np.asarray(preprocess(255 * np.eye(3, dtype=np.float32).reshape(3, 1, 1, 3)), np.float64).reshape(3, 3)
    gain = single - black  # row: the colour that was given; column: the one that the network sees
    turned = bool(np.count_nonzero(np.diag(gain)) < 3)
    if turned:
        first = next(layer for layer in net.layers if layer.weights)
        kernel = getattr(first, "kernel", None)
        if (
            kernel is None
            or kernel.shape[-2] != 3
            or not np.allclose(gain, np.fliplr(np.diag(np.diag(np.fliplr(gain)))))
        ):
            raise Unsupported(f"Keras' {net.name} takes colours in an order that its first layer cannot be turned to")
        kernel.assign(np.asarray(kernel)[..., ::-1, :])
        gain, black = np.fliplr(gain), black[::-1]
    sd = 1 / np.diag(gain)
    return (-black * sd).tolist(), sd.tolist(), turned
