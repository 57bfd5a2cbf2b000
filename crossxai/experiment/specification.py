"""The experiment file: which samples, models, explainers and metrics; written in TOML, checked before anything runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    model_validator,
)

from crossxai.adapters.checks import Precision
from crossxai.attribution import Profile
from crossxai.conventions.agreement import Rung
from crossxai.conventions.convention import CANONICAL
from crossxai.data import sources
from crossxai.data.declared import Files
from crossxai.errors import InvalidFile, InvalidInput, UnknownName
from crossxai.experiment import keeping
from crossxai.outputs import Outputs

LONGEST = 100
OF_FILES = ("images", "labels", "masks", "table", "key", "missing", "missing_values", "indices")
MeanSd = tuple[tuple[float, ...], tuple[float, ...]]
HANDED_OVER = "handed over in Python"
"""In place of a source of data, and of a checkpoint, where samples and models came from a program and not from a file."""


def _name(text: str) -> str:
    """A name that is safe as a file's on every system."""
    if not re.fullmatch(r"[\w@+-][\w.@+-]*", text) or text.endswith(".") or len(text) > LONGEST:
        raise ValueError(
            f"a name becomes the name of a folder: 1 to {LONGEST} letters, digits, and . _ @ + -; a dot neither first nor last"
        )
    return text


def _label(text: str) -> str:
    """The same, with spaces inside; "" for none."""
    if text and (not re.fullmatch(r"[\w@+-][\w .@+-]*", text) or text[-1] in " ." or len(text) > LONGEST):
        raise ValueError(
            f"a label becomes the name of a file: at most {LONGEST} letters, digits, spaces, and . _ @ + -; a dot or a space "
            "neither first nor last"
        )
    return text


def _keep(text: str) -> str:
    if wrong := keeping.problem(text):
        raise ValueError(wrong)
    return text


Name = Annotated[str, AfterValidator(_name)]
Label = Annotated[str, AfterValidator(_label)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Part):
    """source: a registered one (`crossxai.data.sources`), with the `root`, `task` and `split` that it needs; ours are
    "embedded", "pcam" and "medical".

    factory "package.module:function": a function of yours that returns `crossxai.files.Samples`.
    files: in place of a source: a folder of pictures, or of a folder per class, one picture, a pattern, a CSV file with the
    columns `file` and `label`, `.npy`, `.npz` or HDF5; read as the first model takes them. images, labels, masks, table, key,
    missing, missing_values, indices and root: of files, as `crossxai.data.declared.Files` has them.
    n: how many samples, half of each class where there are classes, drawn by the experiment's seed; of files at most the first n.
    groups: a CSV file with the columns `id` and `group`, such as each sample's patient, where samples belong together.
    """

    source: str = "embedded"
    root: Path | None = None
    task: Literal["", "classification", "regression", "segmentation"] = ""
    split: Literal["train", "valid", "test"] = "test"
    n: int = Field(default=12, ge=1)
    factory: str = ""
    files: str = ""
    images: str | dict[str, str] = ""
    labels: str = ""
    masks: str = ""
    table: str = ""
    key: str = ""
    missing: Literal["mean", "median", "drop"] | StrictInt | float | None = None
    missing_values: tuple[StrictInt | float | str, ...] | StrictInt | float | str = ()
    indices: tuple[StrictInt, ...] | str = ()
    description: str = ""
    groups: Path | None = None

    @model_validator(mode="after")
    def _of_source(self) -> Data:
        if self.factory and self.task:
            raise ValueError("task belongs to a source; Samples of your own name theirs")
        if self.files and (self.factory or self.task or (self.source, self.split) != ("embedded", "test")):
            raise ValueError("files stand in place of a source or factory: write one of them")
        if self.files:
            self.given(Path())  # raises what does not fit together
        elif beside := [key for key in OF_FILES if getattr(self, key) not in ("", (), None)]:
            raise ValueError(f"{', '.join(beside)} say where in files samples are: write files, too")
        if self.files or self.factory or self.source == HANDED_OVER:
            return self
        try:
            problem = sources.get(self.source).problem(self)
        except UnknownName as error:
            raise ValueError(str(error)) from error
        if problem:
            raise ValueError(problem)
        return self

    def given(self, folder: Path) -> Files:
        """The files and what is said of them; relative paths are relative to the folder."""
        said = {key: value for key in OF_FILES if (value := getattr(self, key)) not in ("", ())}
        return Files(self.files, root=self.root or "", folder=folder, **said)


class ModelSpec(_Part):
    """A `checkpoint` (.npz) of `crossxai train` on a framework; "embedded" is the ResNet-18 trained on the embedded patches. Or a
    network by name or file (`crossxai.loaders`), such as "torchvision:resnet18@weights.pt", relative to the experiment file.

    factory "package.module:function": a function of yours that returns a `crossxai.model.Model`.
    outputs: what the model gives, "logits", "probabilities", "log_probabilities" or "values"; measured if not declared.
    size, standardise, range, levels, orientation: as `crossxai.wrap` takes them, of a network by name or file or from a factory;
    what comes along with it if not given. window, overlap: of windows that move over images larger than the network takes.
    device: where a torch network runs, such as "cuda"; "auto" is a GPU if there is one, the CPU if not given. precision: "bf16"
    for a torch network under autocast in bfloat16; compile: whether torch.compile makes what masked images are scored by, or the
    backend that does.
    trust: whether its file may run code of its own, which no file of a run says for its reader.
    """

    name: Name
    framework: Literal["torch", "tensorflow"] = "torch"
    checkpoint: str = "embedded"
    factory: str = ""
    outputs: Outputs | None = None
    size: int | tuple[int, ...] | None = None
    standardise: Literal["imagenet"] | MeanSd | dict[str, MeanSd] | None = None
    range: tuple[float, float] | None = None
    levels: tuple[float, float] | Literal["scan"] | None = None
    orientation: str | None = None
    window: int | tuple[int, ...] | None = None
    overlap: float | None = Field(default=None, ge=0, lt=1)
    device: str = ""
    precision: Precision = "float32"
    compile: StrictBool | str = False
    trust: StrictBool = Field(default=False, exclude=True)

    @model_validator(mode="after")
    def _of_network(self) -> ModelSpec:
        if self.factory or self.checkpoint == HANDED_OVER or not self.trained:
            return self
        for key in ("outputs", "size", "standardise", "range", "levels", "orientation", "window", "overlap"):
            if getattr(self, key) is not None:
                raise ValueError(
                    f"{key} belongs to a factory's model, or to a network by name; what a checkpoint of ours gives is known"
                )
        return self

    @property
    def running(self) -> dict[str, Any]:
        """How a torch network runs, as far as said: options of its adapter."""
        options = {"device": self.device, "precision": self.precision, "compile": self.compile}
        return {key: value for key, value in options.items() if value not in ("", "float32", False)}

    @property
    def trained(self) -> bool:
        """Whether the checkpoint is one of `crossxai train`, as far as its name tells."""
        return self.checkpoint == "embedded" or self.checkpoint.endswith(".npz")

    @property
    def declared_framework(self) -> str:
        """The framework as far as these words tell; "" where only the model itself knows."""
        return self.framework if self.trained and not self.factory else ""


class Target(_Part):
    """What is explained. Of classes: the model's own "predicted" class, the "label", or a class number. Of a regression: the
    value of output number `output`. Of a segmentation: the mean output of class number `output`, or of each of several in a row
    of its own, over the "predicted" region, or over the true one ("label"), which is the mask called `mask`, else the first of
    the data.

    explain, measure: the link for explainers and for metrics. By default explainers see the raw output; metrics the probability
    where there are classes, the value in a regression. Of a model that gives probabilities, "softmax" and "sigmoid" are what
    it gives. explain also "logit": the raw output of logits, and the log-odds of probabilities. measure also "largest", the
    largest probability of any class; "accuracy", 1 where the class is the model's answer; "dice", the soft Dice coefficient
    with that region.
    """

    of: Literal["predicted", "label"] | StrictInt = "predicted"
    output: Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...] = 0
    mask: str = ""
    explain: Literal["identity", "softmax", "sigmoid", "logit"] = "identity"
    measure: Literal["auto", "identity", "softmax", "sigmoid", "largest", "accuracy", "dice"] = "auto"


class ExplainerSpec(_Part):
    """An explainer by name, with a profile and parameters; label: its name in the report, unique in the experiment."""

    name: str
    profile: Profile = "native"
    params: dict[str, Any] = {}
    label: Label = ""

    @model_validator(mode="after")
    def _params(self) -> ExplainerSpec:
        for key in {"profile", "name", "label"} & set(self.params):
            raise ValueError(f"{key} is not one of params: write it beside them")
        return self

    @property
    def shown(self) -> str:
        """The label, else the name, with the profile where it is not the native one."""
        return self.label or (self.name if self.profile == "native" else f"{self.name}@{self.profile}")


class MetricSpec(_Part):
    """A metric by name, with parameters; label: its name in the report, unique in the experiment.

    only: labels of the explainers that it measures, for a metric that costs much; controls are measured, too. All if empty.
    """

    name: str
    params: dict[str, Any] = {}
    only: tuple[str, ...] = ()
    label: Label = ""

    @property
    def shown(self) -> str:
        """The label, else the name."""
        return self.label or self.name


class ParitySpec(_Part):
    """What `crossxai parity` compares, and what it expects; a run of `crossxai compare` takes no notice of it.

    methods: keys of `crossxai.conventions.convention.CANONICAL`, all if empty. params: of a method, given to every library that
    has them. expect: the rung that all answers of `profile` must reach, if any. samples: at most so many.
    modality: of models with several inputs, the one whose maps are compared. sanity: whether weights are drawn anew and labels
    shuffled, too.
    axioms: whether all axioms are measured, those that cost explanations, too.
    """

    methods: tuple[str, ...] = ()
    params: dict[str, dict[str, Any]] = {}
    expect: Rung | None = None
    profile: Profile = "canonical"
    samples: int = Field(default=4, ge=1)
    modality: str = ""
    sanity: StrictBool = False
    axioms: StrictBool = False

    @model_validator(mode="after")
    def _known(self) -> ParitySpec:
        for method in (*self.methods, *self.params):
            if method not in CANONICAL:
                raise ValueError(str(UnknownName("method with known conventions", method, CANONICAL)))
        return self


class Experiment(_Part):
    """Everything that decides a run's numbers. folder: what relative paths and factories are relative to.

    explainers, metrics: chosen by `crossxai.experiment.defaults` where none is named.

    parity: what decides none of them; it is of `crossxai parity` alone.

    controls: whether the controls that `explainers` does not name are added: random, centre, edges, and the oracle where the
    data know the truth.
    check: "off" leaves out measuring that models do what explainers rely on; files and report say so.
    keep_maps: what is kept of maps once they are measured, "all", "float16", those of some samples, "sample:200", or "none".
    """

    title: str = "Comparison of explanations"
    seed: int = Field(default=0, ge=0)
    batch_size: int | None = Field(default=None, ge=1)
    controls: StrictBool = True
    check: Literal["on", "off"] = "on"
    keep_maps: Annotated[str, AfterValidator(_keep)] = "all"
    data: Data = Field(default_factory=Data)
    target: Target = Target()
    models: tuple[ModelSpec, ...] = Field(min_length=1)
    explainers: tuple[ExplainerSpec, ...] = ()
    metrics: tuple[MetricSpec, ...] = ()
    parity: ParitySpec = Field(default=ParitySpec(), exclude=True)
    folder: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _unique(self) -> Experiment:
        for kind, names, advice in (
            ("models", [m.name for m in self.models], "give each its own name"),
            ("explainers", [e.shown for e in self.explainers], "give each its own label"),
            ("metrics", [m.shown for m in self.metrics], "give each its own label"),
        ):
            folded = [name.casefold() for name in names]  # some file systems do not tell capitals
            twice = sorted({name for name in names if folded.count(name.casefold()) > 1})
            if twice:
                raise ValueError(f"{kind}: {', '.join(twice)} appears twice; {advice}")
        known = [e.shown for e in self.explainers]
        for metric in self.metrics:
            if unknown := [label for label in metric.only if label not in known]:
                raise ValueError(
                    f"metric {metric.shown}: only names {', '.join(unknown)}; the explainers are {', '.join(known)}"
                )
        return self


def load(path: Path) -> Experiment:
    """Read an experiment file; raises `InvalidFile` or `InvalidInput` with the place of the mistake.

    Relative paths, and the modules of factories, are looked for beside the file.
    """
    return check({**read_toml(path, "experiment file"), "folder": path.resolve().parent}, str(path))


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The content of a TOML file; raises `InvalidFile`, which says what it should be."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"cannot read {what} {path}: {getattr(error, 'strerror', '') or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidFile(f"{path} is not TOML: {error}") from error


def with_parity(experiment: Experiment, **options: Any) -> Experiment:
    """The experiment with parts of its [parity] replaced by options that are not None; raises `InvalidInput`, as `check` does."""
    given = {name: value for name, value in options.items() if value is not None}
    content = {name: getattr(experiment, name) for name in Experiment.model_fields}
    return check(
        {**content, "parity": {**experiment.parity.model_dump(), **given}}, "the experiment with these options"
    )


def check(content: dict[str, Any], where: str = "experiment") -> Experiment:
    """An `Experiment` from plain data; raises `InvalidInput` naming each wrong entry."""
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(f"{where} is not a valid experiment:\n  {wrong_entries(error)}") from error


def wrong_entries(error: ValidationError) -> str:
    """Each wrong entry in a line: its place, what is wrong with it, and what was given."""
    wrong = error.errors()
    # pydantic also calls a list too short that holds a wrong entry.
    inside = {e["loc"][:1] for e in wrong if len(e["loc"]) > 1}
    return "\n  ".join(
        f"{'.'.join(str(part) for part in e['loc']) or 'the file'}: {e['msg'].removeprefix('Value error, ')}"
        + (f" (got {e['input']!r})" if isinstance(e["input"], str | int | float) else "")
        for e in wrong
        if not (e["type"] == "too_short" and e["loc"] in inside)
    )
