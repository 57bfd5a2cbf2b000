"""An experiment from options of the command line: models and data by name or file, instead of an experiment file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossxai.errors import InvalidInput

if TYPE_CHECKING:
    from crossxai.experiment.specification import Experiment, ModelSpec
    from crossxai.model import Array, Model

NOISE = 64
"""Pixels a side of images of noise, for a model that says no size."""
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="In place of an experiment file: a network's name such as torchvision:resnet18@weights.pt, a model's file, or "
        "package.module:function; may be repeated. See docs/models.md.",
    ),
]
DataFiles = Annotated[
    str,
    typer.Option(
        "--data", help="Of --model: a folder of pictures, one picture, a pattern in quotes, a CSV file, .npy or .npz."
    ),
]
Trust = Annotated[bool, typer.Option("--trust", help="Of --model: let its file run code of its own.")]
Size = Annotated[int | None, typer.Option("--size", min=1, help="Of --model: bring pictures to so many pixels a side.")]


def experiment(
    models: Sequence[str],
    data: str,
    *,
    samples: int | None,
    trust: bool,
    size: int | None,
    explainers: Sequence[str] = ("controls.random",),
    metrics: Sequence[str] = ("deletion",),
) -> Experiment:
    """The experiment of these options; raises `InvalidInput`. Paths are relative to the folder that the command runs in."""
    from crossxai.experiment.specification import check

    if not data:
        raise InvalidInput("--model needs --data, on which it is explained: a folder of pictures, a CSV file, .npz …")
    content = {
        "data": {"files": data, **({"n": samples} if samples else {})},
        "models": specified(models, trust, size),
        "explainers": [explainer(name) for name in explainers],
        "metrics": [{"name": name} for name in metrics],
        "folder": Path.cwd(),
    }
    return check(content, "the command line")


def explainer(written: str) -> dict[str, str]:
    """The entry of an explainer that is written `name` or `name@profile`; without one the explainer's first, mostly native."""
    from crossxai.explainers import discover

    name, _, profile = written.partition("@")
    kind = discover().get(name)
    return {"name": name, "profile": profile or (kind.profiles[0] if kind else "native")}


def specified(models: Sequence[str], trust: bool, size: int | None) -> list[ModelSpec]:
    """The models of an experiment; each is called after its network or file."""
    from crossxai.experiment.preparing import numbered
    from crossxai.experiment.specification import ModelSpec

    named = zip(numbered([_name(model) for model in models]), models, strict=True)
    specs = [ModelSpec(name=name, checkpoint=model, trust=trust) for name, model in named]
    return [spec if spec.trained else spec.model_copy(update={"size": size}) for spec in specs]


def noise(model: Model, size: int | None, n: int) -> tuple[Array, ...]:
    """Images, or rows, of noise in each input's range; images as large as the model takes them."""
    import numpy as np

    side, rng = size or NOISE, np.random.default_rng(0)
    sides = getattr(getattr(model, "recognised", None), "size", None) or (side, side)
    inputs = []
    for modality in model.modalities:
        low, high = modality.range or (-1.0, 1.0)
        space = sides if len(modality.axes) == 3 else (side,) * (len(modality.axes) - 1)
        inputs.append(rng.uniform(low, high, (n, *space, len(modality.features))).astype(np.float32))
    return tuple(inputs)


def names(listed: str) -> list[str]:
    """Names that are written with commas between them."""
    return [name.strip() for name in listed.split(",") if name.strip()]


def one_of(path: object, models: Sequence[str] | None) -> None:
    """Raise `InvalidInput` where an experiment file and models are both given."""
    if path is not None and models:
        raise InvalidInput("an experiment file names its models: write the file, or --model and --data")


def _name(model: str) -> str:
    """A name for reports: of a network without its library and weights, of a file without its folder and ending."""
    library, colon, rest = model.partition(":")
    plain = rest.partition("@")[0] if colon and len(library) > 1 else Path(model).stem
    return re.sub(r"[^\w.@+-]+", "_", Path(plain).name).strip("._") or "model"
