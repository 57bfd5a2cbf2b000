"""Single entries of an experiment changed on the command line: --set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from experiments import SMALL, crossxai, toml

from crossxai.cli import given
from crossxai.errors import InvalidInput, UnknownName
from crossxai.experiment.settings import with_settings


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(toml(SMALL))
    return str(path)


def test_entries_go_by_path_number_label_or_name_and_values_are_toml_or_text(file: str) -> None:
    settings = ("data.n=7", "title=two words", "controls=true", "models.pytorch.framework=tensorflow", "metrics.0.params.steps=9",
                "explainers.captum.saliency.label=mine", "explainers.gradcam.gradcam.params={ layer = 'layer4' }",
                "parity.methods=['lime']", "data.description='= 3.0'")  # fmt: skip
    before = with_settings(SMALL, ())
    found = given.chosen(file, None, "", settings=settings)
    assert (found.data.n, found.title, found.controls, found.models[0].framework) == (
        7,
        "two words",
        True,
        "tensorflow",
    )
    assert [(e.shown, e.params) for e in found.explainers[:2]] == [
        ("mine", {}),
        ("gradcam.gradcam", {"layer": "layer4"}),
    ]
    assert found.metrics[0].params == {"steps": 9}
    assert found.parity.methods == ("lime",)
    assert found.data.description == "= 3.0"
    assert before == SMALL  # nothing of it was changed


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.n=none", "data.n: Input should be a valid integer"),
        ("data.m=3", "data.m: Extra inputs are not permitted (got 3)"),
        ("titel=x", "titel: Extra inputs are not permitted"),
        ("data.n", "--set data.n: write key=value"),
        ("data..n=3", "write key=value"),
        ("title.a.b=3", "title: Input should be a valid string"),
        ("explainers.captum.lime.label=x", "explainers.captum.lime.label could change is called 'captum'"),
        ("metrics.5.label=x", "no entry that --set metrics.5.label could change is called '5'; known: 0, deletion"),
    ],
)
def test_a_wrong_entry_is_named(file: str, setting: str, message: str) -> None:
    done = crossxai("compare", file, "--set", setting)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("options", "words"), [({"size": 3}, "--size"), ({"trust": True, "data": "x"}, "--data and --trust")]
)
def test_options_of_models_do_not_change_a_file(file: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=f"{words} belong to --model: .* --set"):
        given.chosen(file, None, options.pop("data", ""), **options)


def test_entries_of_models_on_the_command_line_are_changed_too() -> None:
    found = given.chosen(None, ["net.keras"], "photos", settings=["models.net.size=[20, 30]", "seed=4"])
    assert (found.models[0].size, found.seed) == ((20, 30), 4)
    with pytest.raises(UnknownName, match="could change"):
        given.chosen(None, ["net.keras"], "photos", settings=["models.other.size=3"])
