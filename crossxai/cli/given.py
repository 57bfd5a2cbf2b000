"""An experiment from options of the command line: models and data by name or file, instead of an experiment file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from crossxai.adapters.checks import SCAN
from crossxai.cli import completing
from crossxai.errors import InvalidInput

if TYPE_CHECKING:
    from crossxai.experiment.specification import Experiment, ModelSpec
    from crossxai.files import Samples

DEMO = str(Path(__file__).parents[1] / "demo.toml")
"""The experiment file of `crossxai demo`."""
PLACE: dict[str, Any] = {"metavar": "PATH", "autocompletion": completing.folders}
"""Of an argument or option that is a path or a URL."""
SAMPLES = 12
"""Samples if nobody says how many."""
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
        "--data",
        help="Of --model: a folder of pictures, one picture, a pattern in quotes, a CSV file, .npy, .npz or HDF5; what its "
        "names do not tell is said by --set data.labels=… and others, see docs/models.md.",
    ),
]
Explainers = Annotated[
    str,
    typer.Option(
        "--explainers", "-e", autocompletion=completing.explainers,
        help="Names that `crossxai list` shows, with commas; name@canonical for that profile.",
    ),
]  # fmt: skip
Metrics = Annotated[
    str,
    typer.Option(
        "--metrics", autocompletion=completing.metrics, help="Names that `crossxai list` shows, with commas."
    ),
]  # fmt: skip
Trust = Annotated[bool, typer.Option("--trust", help="Of --model: let its file run code of its own.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change one entry of the experiment: key=value, such as data.n=20; may be repeated.",
        metavar="KEY=VALUE",
    ),
]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        help='What is explained: predicted, label or a class such as 3; of a segmentation "class=2 region=label", class=1,2 and '
        '"mask=lesion", a mask of the data; of a regression output=1.',
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", help="Of --model: where a torch network runs, such as cuda:1; auto is a GPU if there is one."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", help="Of --model: bf16 runs a torch network under autocast; what that changes is measured."
    ),
]
Compile = Annotated[
    bool,
    typer.Option("--compile", help="Of --model: score masked images by what torch.compile makes of a torch network."),
]
Size = Annotated[int | None, typer.Option("--size", min=1, help="Of --model: bring pictures to so many pixels a side.")]


Levels = Annotated[
    str,
    typer.Option(
        "--levels", help="Of scans in --data: LOW,HIGH, the values that become the ends of the model's range, or scan."
    ),
]


class Running(NamedTuple):
    """Where and how the networks of --model run: entries of an experiment's models."""

    device: str = ""
    precision: str = ""
    compile: bool = False

    @property
    def said(self) -> dict[str, Any]:
        """What somebody said."""
        return {key: value for key, value in self._asdict().items() if value}


AS_IT_IS = Running()


def chosen(
    path: str | None,
    models: Sequence[str] | None,
    data: str,
    *,
    samples: int | None = None,
    most: int = SAMPLES,
    trust: bool = False,
    size: int | None = None,
    running: Running = AS_IT_IS,
    settings: Sequence[str] | None = None,
    target: str = "",
    explainers: str = "",
    metrics: str = "",
) -> Experiment:
    """The experiment of a file, or of the models and data that stand in its place, with what other options change.

    path: of an experiment file; a name that does not end with .toml is the first model. most: samples if nobody says how many.
    Raises `InvalidInput`.
    """
    from crossxai.experiment.settings import with_settings
    from crossxai.experiment.specification import check, read_toml

    named = [*(models or ())]
    if path and not path.endswith(".toml"):
        named.insert(0, path)
    one_of(path if path and path.endswith(".toml") else None, named)
    listed = {"explainers": [explainer(name) for name in names(explainers)],
              "metrics": [{"name": name} for name in names(metrics)]}  # fmt: skip
    if named:
        content = {**of_models(named, data, samples or most, trust, size, running), **listed}
        where = "the command line"
    elif path:
        if wrong := [
            key
            for key, value in (
                ("--data", data),
                ("--size", size),
                ("--trust", trust),
                *((f"--{option}", value) for option, value in running.said.items()),
            )
            if value
        ]:
            raise InvalidInput(
                f"{' and '.join(wrong)} belong to --model: change {path} itself, or one entry by --set, such as --set data.n=20"
            )
        content = {**read_toml(Path(path), "experiment file"), "folder": Path(path).resolve().parent}
        content |= {key: value for key, value in listed.items() if value}
        settings = [*([f"data.n={samples}"] if samples else []), *(settings or ())]
        where = path
    else:
        raise InvalidInput(
            "write an experiment file, or --model and --data: the name or file of a network, and pictures"
        )
    if target:
        content = {**content, "target": {**content.get("target", {}), **target_of(target)}}
    if settings:
        content = with_settings(content, settings)
        where = f"{where} with {' '.join(f'--set {setting}' for setting in settings)}"
    return check(content, where)


def experiment(
    models: Sequence[str],
    data: str,
    *,
    samples: int | None,
    trust: bool,
    size: int | None,
    running: Running = AS_IT_IS,
    levels: str = "",
) -> Experiment:
    """The experiment of these options, which names no explainers or metrics; raises `InvalidInput`."""
    from crossxai.experiment.specification import check

    content = of_models(models, data, samples, trust, size, running)
    if levels:
        content["models"] = [{**model, "levels": _levels(levels)} for model in content["models"]]
    return check(content, "the command line")


def _levels(written: str) -> tuple[float, float] | str:
    """LOW,HIGH as numbers, or the word "scan"."""
    if written == SCAN:
        return written
    low, _, high = written.partition(",")
    try:
        return float(low), float(high)
    except ValueError as error:
        raise InvalidInput(f"--levels is LOW,HIGH, such as --levels=-160,240, or scan; got {written!r}") from error


def of_models(
    models: Sequence[str],
    data: str,
    samples: int | None,
    trust: bool,
    size: int | None,
    running: Running = AS_IT_IS,
) -> dict[str, Any]:
    """The content of an experiment file. Paths are relative to the folder that the command runs in."""
    if not data:
        raise InvalidInput("--model needs --data, on which it is explained: a folder of pictures, a CSV file, .npz …")
    return {
        "data": {"files": data, **({"n": samples} if samples else {})},
        "models": [
            spec.model_dump(exclude_defaults=True) | {"trust": spec.trust}
            for spec in specified(models, trust, size, running)
        ],
        "folder": Path.cwd(),
    }


def explainer(written: str) -> dict[str, str]:
    """The entry of an explainer that is written `name` or `name@profile`; without one the explainer's first, mostly native."""
    from crossxai.explainers import discover

    name, _, profile = written.partition("@")
    kind = discover().get(name)
    return {"name": name, "profile": profile or (kind.profiles[0] if kind else "native")}


def specified(models: Sequence[str], trust: bool, size: int | None, running: Running = AS_IT_IS) -> list[ModelSpec]:
    """The models of an experiment; each is called after its network or file."""
    from crossxai.experiment.preparing import numbered
    from crossxai.experiment.specification import ModelSpec

    named = zip(numbered([_name(model) for model in models]), models, strict=True)
    specs = [ModelSpec(name=name, checkpoint=model, trust=trust) for name, model in named]
    sized = [spec if spec.trained else spec.model_copy(update={"size": size}) for spec in specs]
    return [spec.model_copy(update=running.said) for spec in sized]


def tell_left_out(samples: Samples) -> None:
    """Warn of files that are no samples."""
    from crossxai.data import odd

    for line in odd.lines(samples.left_out):
        typer.secho(line, fg="yellow", err=True)


def target_of(written: str) -> dict[str, Any]:
    """The target that `--target` says: one word, or key=value pairs with spaces between them; raises `InvalidInput`."""
    pairs = dict(pair.partition("=")[::2] for pair in written.split())
    if "=" not in written and len(pairs) == 1:
        return {"of": int(written) if written.strip().isdecimal() else written.strip()}
    unknown = sorted(pairs.keys() - {"class", "region", "mask", "output"})
    numbers = {key: pairs[key] for key in ("class", "output") if key in pairs}
    each = [number for value in numbers.values() for number in value.split(",")]
    if unknown or not pairs or not all(map(str.isdecimal, each)) or len(numbers) > 1:
        raise InvalidInput(
            f'--target {written!r}: write predicted, label, a class such as 3, or "class=2 region=predicted", "region=label", '
            '"mask=lesion", "output=1"'
        )
    region = pairs.get("region", "label" if "mask" in pairs else "")
    if not region and "class" in pairs and len(each) == 1:
        return {"of": int(each[0])}
    said: dict[str, Any] = {"of": region or "predicted"}
    if "mask" in pairs:
        said["mask"] = pairs["mask"]
    if each:
        said["output"] = int(each[0]) if len(each) == 1 else [int(number) for number in each]
    return said


def pairs(written: Sequence[str], option: str) -> dict[str, str]:
    """KEY=VALUE pairs; raises `InvalidInput`."""
    if wrong := [one for one in written if "=" not in one]:
        raise InvalidInput(f"{option} {wrong[0]}: write KEY=VALUE")
    return dict(one.partition("=")[::2] for one in written)


def names(listed: str) -> list[str]:
    """Names that are written with commas between them."""
    return [name.strip() for name in listed.split(",") if name.strip()]


def one_of(path: object, models: Sequence[str] | None) -> None:
    """Raise `InvalidInput` where an experiment file and models are both given."""
    if path is not None and models:
        raise InvalidInput("an experiment file names its models: write the file, or --model and --data")


def _name(model: str) -> str:
    """A name for reports: of a network without its library and weights, of a file without its folder and ending."""
    model = re.sub(r"\.py:\w+$", "", model)
    library, colon, rest = model.partition(":")
    plain = rest.partition("@")[0] if colon and len(library) > 1 else Path(model).stem
    return re.sub(r"[^\w.@+-]+", "_", Path(plain).name).strip("._") or "model"
