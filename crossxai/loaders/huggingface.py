"""Networks of Hugging Face from a folder, or by a hub name where there is a network, with their image processor."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.errors import InvalidFile, InvalidInput, in_words
from crossxai.loaders.loaded import TRUST, Loaded, Resample, Resize
from crossxai.process import foreign, require

TASKS = {
    "ForImageClassification": "AutoModelForImageClassification",
    "ForSemanticSegmentation": "AutoModelForSemanticSegmentation",
}
RESAMPLE: dict[int, Resample] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which image processors hold."""


def load(name: str, weights: str, folder: Path, trust: bool) -> Loaded:
    """A network for classes or segmentation; name: a folder, or a name of the hub. Code beside the weights needs trust."""
    transformers = require("transformers", "huggingface", "a network of Hugging Face")
    if weights:
        raise InvalidInput(f"hf:{name}@{weights}: a folder of Hugging Face holds its weights: write hf:{name}")
    path = folder / Path(name).expanduser()
    where = str(path) if path.is_dir() else name
    beside = path.parent
    # A lost folder is not asked of the hub, which takes half a minute where it cannot be reached.
    if not path.is_dir() and beside.is_dir() and beside.resolve() != folder.resolve():
        raise InvalidFile(f"hf:{name}: there is no folder {path.name!r} in {beside}")
    raised: tuple[type[Exception], ...] = (*foreign(), OSError, ImportError, pickle.UnpicklingError)
    try:
        plain, _ = transformers.PretrainedConfig.get_config_dict(where)
    except raised as error:
        raise InvalidFile(
            f"hf:{name} is no folder with a config.json, and no name that the hub gives: {in_words(error)}"
        ) from error
    if plain.get("auto_map") and not trust:
        raise InvalidInput(
            f"hf:{name} brings code of its own, which loading would run. If you trust who made it: {TRUST}"
        )
    made = next(iter(plain.get("architectures") or ()), "")
    kind = next((auto for task, auto in TASKS.items() if made.endswith(task)), None)
    if kind is None:
        raise InvalidInput(
            f"hf:{name} is of the kind {made or 'that its config.json does not name'}; {' and '.join(TASKS)} are loaded: of "
            "others write a function that returns the model, package.module:function"
        )
    try:
        with _without_bars(transformers):
            net = getattr(transformers, kind).from_pretrained(where, trust_remote_code=trust).eval()
            processor = _processor(transformers, where, path, trust)
    except raised as error:
        raise InvalidFile(f"Hugging Face cannot load {where}: {in_words(error)}") from error
    names = tuple(str(label) for _, label in sorted((getattr(net.config, "id2label", None) or {}).items()))
    told, resize, constants = ["no image processor beside it: nothing is known of its preprocessing"], None, None
    if processor is not None:
        resize, constants = resized(processor.to_dict()), standardised(processor)
        told = [f"preprocessing: that of its {type(processor).__name__} unless declared otherwise"]
        if resize is None:
            told.append("the image processor does not say how pictures are resized: write size=(224, 224), say")
    return Loaded(
        net,
        Path(name).name,
        (f"weights: hf:{name}", *told),
        resize,
        constants,
        () if names[:1] == ("LABEL_0",) else names,
        options={"outputs": "logits"},
    )


@contextmanager
def _without_bars(transformers: Any) -> Iterator[None]:
    """Reading weights shows no bar inside: it takes no time. That of a download, which does, is another one's."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _processor(transformers: Any, where: str, path: Path, trust: bool) -> Any:
    """The image processor; None where a folder has none."""
    if (
        path.is_dir()
        and not (path / "preprocessor_config.json").exists()
        and not (path / "processor_config.json").exists()
    ):
        return None
    return transformers.AutoImageProcessor.from_pretrained(where, trust_remote_code=trust)


def resized(processor: Mapping[str, Any]) -> Resize | None:
    """How an image processor brings pictures to a network; None where it does not, or by a rule that is not known here."""
    if not processor.get("do_resize"):
        return None
    size, crop = processor["size"], processor.get("crop_size")
    cut = (int(crop["height"]), int(crop["width"])) if processor.get("do_center_crop") and crop else None
    resample = RESAMPLE.get(int(processor.get("resample") or 2), "bilinear")
    if set(size) == {"height", "width"}:
        to = int(size["height"]), int(size["width"])
        return Resize(to, cut or to, resample)
    if set(size) == {"shortest_edge"}:
        side = int(size["shortest_edge"])
        if share := processor.get("crop_pct"):  # of ConvNeXt: small sizes are cut, large ones are not
            return Resize(int(side / share) if side < 384 else (side, side), (side, side), resample)
        return Resize(side, cut, resample)
    raise InvalidInput(
        f"the image processor's size {size} is a rule that is not known here: write size=(224, 224), say"
    )


def standardised(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, sd) of images from 0 to 1, measured on pictures of one colour: processors scale, shift and standardise in ways of
    their own. Raises `InvalidInput` where that is no mean and sd by colour."""

    def answer(*colour: int) -> Any:
        picture = np.tile(np.array(colour, np.uint8), (16, 16, 1))
        values = processor(picture, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
        return values.mean(axis=(1, 2)).astype(np.float64)

    black, white = answer(0, 0, 0), answer(255, 255, 255)
    sd = 1 / np.where(white == black, np.nan, white - black)
    mean = -black * sd
    mixed = (np.array([255, 51, 102]) / 255 - mean) / sd
    if not np.allclose(answer(255, 51, 102), mixed, atol=1e-3):
        raise InvalidInput(
            "the image processor does more than subtract a mean and divide by an sd: write range and standardise"
        )
    return tuple(np.round(mean, 6).tolist()), tuple(np.round(sd, 6).tolist())
