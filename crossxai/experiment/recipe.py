"""A recipe: how maps are made, explainer, parameters, profile, seed and target, as TOML that every model can be explained by."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from crossxai import explainers
from crossxai.attribution import Attribution, Explainer
from crossxai.data.arrays import Batch
from crossxai.errors import InvalidInput
from crossxai.experiment import loading, preparing, toml
from crossxai.experiment import specification as experiments
from crossxai.experiment.origin import declared_batch_size
from crossxai.experiment.questions import describe_explained, describe_measure, explained_as, predicted, questions
from crossxai.experiment.reading import samples_of
from crossxai.experiment.specification import HANDED_OVER, Experiment, ExplainerSpec, Target, read_toml, wrong_entries
from crossxai.files import Samples
from crossxai.files.atomic import write_text
from crossxai.model import Array, Model
from crossxai.question import Question


class Recipe(BaseModel):
    """What to do to a model and its samples; the words are those of an experiment file, with one explainer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, ge=0)
    explainer: ExplainerSpec
    target: Target = Target()

    @field_validator("target")
    @classmethod
    def _explained(cls, target: Target) -> Target:
        if target.measure != "auto":
            raise ValueError("measure belongs to an evaluation; a recipe says what is explained")
        return target

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a TOML file, or the recipe of a file of maps; raises `InvalidFile`, or `InvalidInput` with the mistake's place."""
        path = Path(path)
        if path.suffix in (".h5", ".hdf5"):
            return recipe_of(Attribution.load(path))
        return check(read_toml(path, "recipe"), str(path))

    def save(self, path: str | Path) -> Path:
        """Write the recipe as TOML; raises `InvalidFile`."""
        path = Path(path)
        write_text(path, self.toml())
        return path

    def method(self, samples: Samples | None = None) -> Explainer:
        """The explainer."""
        return loading.explainer(self.explainer, self.seed, samples)

    def made(self, explainer: Explainer) -> Recipe:
        """The same recipe with every parameter as it was used, so that no other default takes its place."""
        used: dict[str, Any] = getattr(explainer, "parameters", dict)()
        used = {k: v for k, v in used.items() if k not in ("profile", "seed") and _is_toml(v)}
        params = {**used, **self.explainer.params}
        return self.model_copy(update={"explainer": self.explainer.model_copy(update={"params": params})})

    def content(self) -> dict[str, Any]:
        """The recipe as plain data."""
        explainer = {key: getattr(self.explainer, key) for key in ("name", "profile", "params")}
        target = self.target.model_dump(exclude_defaults=True) or {"of": self.target.of}
        return {"seed": self.seed, "explainer": explainer, "target": target}

    def toml(self) -> str:
        """The recipe as TOML."""
        content = self.content()
        params = content["explainer"].pop("params")
        tables = {"explainer": content["explainer"], "explainer.params": params, "target": content["target"]}
        text = f"seed = {self.seed}\n"
        for name, entries in tables.items():
            if entries:
                text += f"\n[{name}]\n" + "".join(f"{toml.key(k)} = {toml.value(v)}\n" for k, v in entries.items())
        return text

    def __str__(self) -> str:
        return self.toml()


def check(content: Mapping[str, Any], where: str) -> Recipe:
    """A recipe of plain data whose explainer exists and takes its parameters; raises `InvalidInput` or `UnknownName`."""
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(f"{where} is no recipe:\n  {wrong_entries(error)}") from error
    loading.explainer(recipe.explainer, recipe.seed)
    return recipe


def alone(given: Recipe | str | Path, explainer: Any, params: Mapping[str, Any]) -> Recipe:
    """A recipe that was handed over or is in a file; raises `InvalidInput` where an explainer or parameters come with it."""
    if explainer is not None or params:
        named = ", ".join(["an explainer"] * (explainer is not None) + list(params))
        raise InvalidInput(
            f"a recipe says explainer, parameters and profile; got {named} beside it: change them in the recipe"
        )
    return given if isinstance(given, Recipe) else Recipe.load(given)


def record(explainer: Explainer, target: Any) -> dict[str, Any]:
    """The recipe of an explainer and a target that a program gave, as plain data; {} where TOML cannot say it. A class for each
    sample is its label."""
    kind = explainers.discover().get(explainer.name)
    if type(explainer) is not kind or hasattr(target, "cotangent"):
        return {}
    defaults = {field.name: field.default for field in fields(kind) if field.name != "profile"}
    used = {name: getattr(explainer, name) for name in defaults}
    used = {name: value.item() if isinstance(value, np.generic) else value for name, value in used.items()}
    params = {name: value for name, value in used.items() if _is_toml(value)}
    if any(used[name] is not defaults[name] for name in used.keys() - params.keys()):
        return {}
    of: Literal["predicted", "label"] | int = "predicted"
    if target is not None:
        of = int(target) if isinstance(target, int | np.integer) else "label"
    seed = params.pop("seed", 0)
    spec = ExplainerSpec(name=explainer.name, profile=explainer.profile, params=params)
    return Recipe(seed=seed, explainer=spec, target=Target(of=of)).content()


def recipe_of(attribution: Attribution) -> Recipe:
    """The recipe of maps; raises `InvalidInput` where there is none."""
    if attribution.origin is None or not attribution.origin.recipe:
        raise InvalidInput(
            f"these maps of {attribution.explainer} have no recipe: it needs an explainer that `crossxai list` shows, parameters "
            "that TOML can write, and as target a class, the predicted one or each sample's own"
        )
    return check(attribution.origin.recipe, "the recipe of these maps")


def question_of(recipe: Recipe, model: Model, batch: Batch) -> tuple[Question, Array, tuple[str, ...]]:
    """What a recipe explains of a model and samples that a program hands over, the model's outputs, and both in words. Raises
    `InvalidInput`."""
    wanted, size = recipe.target, declared_batch_size(model)
    if wanted.of == "label" and batch.labels is None and not batch.label_names:
        raise InvalidInput(
            "this recipe explains each sample's label, and there are none: write target=labels, a class for each"
        )
    if wanted == Target(of=wanted.of) and wanted.of != "label":
        outputs = predicted(model, batch.inputs, size)
        target = None if wanted.of == "predicted" else wanted.of
        question, words = preparing.question_of(model, batch, target, outputs)
        return question, outputs, (words, *batch.notes)
    samples, description, _ = samples_of(model, batch, size)
    experiment = experiments.check(
        {
            "data": {"source": HANDED_OVER, "n": len(batch)},
            "models": [{"name": "model", "checkpoint": HANDED_OVER}],
            "explainers": [recipe.explainer],
            "metrics": [{"name": "deletion"}],
            "target": wanted,
            "batch_size": size,
        },
        "the recipe",
    )
    asked = questions(experiment, samples, loading.declared(model), model.name)
    return asked.explained, asked.outputs, words_of(recipe, experiment, samples, description)


def words_of(recipe: Recipe, experiment: Experiment, samples: Samples, description: str) -> tuple[str, ...]:
    """What a recipe explains of an experiment's samples, and what these are, in words."""
    of = describe_explained(experiment, samples)
    explained = describe_measure(explained_as(recipe.target, samples), of)
    return tuple(note for note in (f"explains the {explained}", description) if note)


def parameter(text: str) -> tuple[str, Any]:
    """(name, value) of "name=value"; the value as TOML has it, and text where it is none, as in patch=8 or layer=layer4."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise InvalidInput(f"a parameter is written name=value, such as steps=50; got {text!r}")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _is_toml(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_toml, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_toml(v) for k, v in value.items())
    return isinstance(value, str | int | float)
