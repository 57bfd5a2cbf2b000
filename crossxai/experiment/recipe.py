"""A recipe: how maps are made, explainer, parameters, profile, seed and target, as TOML that every model can be explained by."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from crossxai.attribution import Explainer
from crossxai.errors import InvalidInput
from crossxai.experiment import loading
from crossxai.experiment.specification import ExplainerSpec, Target, read_toml, wrong_entries


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

    def made(self, explainer: Explainer) -> Recipe:
        """The same recipe with every parameter as it was used, so that no other default takes its place."""
        used: dict[str, Any] = getattr(explainer, "parameters", dict)()
        used = {k: v for k, v in used.items() if k not in ("profile", "seed") and _is_toml(v)}
        params = {**used, **self.explainer.params}
        return self.model_copy(update={"explainer": self.explainer.model_copy(update={"params": params})})

    def toml(self) -> str:
        """The recipe as TOML."""
        explainer = {"name": self.explainer.name, "profile": self.explainer.profile}
        target = self.target.model_dump(exclude_defaults=True) or {"of": self.target.of}
        tables = {"explainer": explainer, "explainer.params": self.explainer.params, "target": target}
        text = f"seed = {self.seed}\n"
        for name, entries in tables.items():
            if entries:
                text += f"\n[{name}]\n" + "".join(f"{_key(k)} = {_value(v)}\n" for k, v in entries.items())
        return text


def load(path: Path) -> Recipe:
    """Read a recipe; raises `InvalidFile` or `InvalidInput` with the place of the mistake."""
    return check(read_toml(path, "recipe"), str(path))


def check(content: Mapping[str, Any], where: str) -> Recipe:
    """A recipe of plain data whose explainer exists and takes its parameters; raises `InvalidInput` or `UnknownName`."""
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(f"{where} is no recipe:\n  {wrong_entries(error)}") from error
    loading.explainer(recipe.explainer, recipe.seed)
    return recipe


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


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    """A value in TOML's words, which are JSON's for text and booleans."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
