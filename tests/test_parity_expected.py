"""What is expected of a parity, in an experiment file, by options and in tests: exit status, sentence and page."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import crossxai, toml

import crossxai as xai
from crossxai.experiment.specification import check
from crossxai.testing import assert_parity

OWN = """
import numpy as np
import torch
from torch import nn
from crossxai import Modality
from crossxai.files import Samples

def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    return nn.Sequential(*layers).eval()
def data():
    images = np.random.default_rng(0).random((3, 12, 12, 3), np.float32)
    return Samples(('a', 'b', 'c'), (Modality.image(),), {'image': images}, np.array([0, 1, 2]), ('x', 'y', 'z'))

TABLE = Modality.table(('p', 'q', 'r'))
def dense():
    from crossxai.adapters.torch import TorchModel
    torch.manual_seed(0)
    return TorchModel(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), (TABLE,))
def rows():
    values = np.random.default_rng(0).random((3, 3), np.float32)
    return Samples(('a', 'b', 'c'), (TABLE,), {'table': values}, np.array([0, 1, 1]), ('x', 'y'))
"""
EXPERIMENT: dict[str, Any] = {
    "controls": False,
    "data": {"factory": "expected_own:data"},
    "models": [{"name": "net", "factory": "expected_own:net"}],
    "explainers": [{"name": "captum.saliency"}],
    "metrics": [{"name": "deletion", "params": {"steps": 2}}],
}
OCCLUSION = {"params": {"occlusion": {"patch": 4, "stride": 4}}}


def run(folder: Path, table: dict[str, Any], *options: str, **of: Any) -> tuple[int, str, dict[str, Any]]:
    """Exit status, output and the numbers of the page."""
    (folder / "expected_own.py").write_text(OWN)
    path, out = folder / "experiment.toml", folder / "out"
    path.write_text(toml({**EXPERIMENT, **of, "parity": table}))
    done = crossxai("parity", str(path), "--out", str(out), *options)
    assert done.exit_code in (0, 1), (done.output, done.exception)
    return done.exit_code, " ".join(done.output.split()), json.loads((out / "parity.json").read_text())


def test_an_expectation_of_the_file_that_is_met(tmp_path: Path) -> None:
    table = {"methods": ["saliency", "occlusion"], "expect": "equal to rounding", "samples": 2, **OCCLUSION}
    status, said, numbers = run(tmp_path, table)
    assert (status, "Not met" in said) == (0, False)
    assert [m["key"] for m in numbers["methods"]] == ["saliency", "occlusion"]
    assert numbers["methods"][0]["expected"] == {
        "rung": "equal to rounding",
        "profile": "canonical",
        "shortfalls": [],
    }
    page = " ".join((tmp_path / "out" / "parity.html").read_text().split())
    assert "Expected of one definition: equal to rounding, which all reach." in page
    assert page.count(">equal to rounding: met</td>") == 2


def test_what_is_not_met_is_said_with_its_cause_and_options_override_the_file(tmp_path: Path) -> None:
    table = {"methods": ["occlusion"], "expect": "identical", **OCCLUSION}
    options = ("--method", "saliency", "--expect", "same ranking", "--profile", "native", "--samples", "1")
    status, said, numbers = run(tmp_path, table, *options)
    assert status == 1
    sentence = (
        'saliency (native): captum.saliency on net and xplique.saliency on net reach "different", expected "same ranking"; '
        "what parts them: channels: largest (100%)"
    )
    assert sentence in said
    assert "xplique.saliency on net and reference.saliency" not in said  # these two agree
    (method,) = numbers["methods"]
    assert sentence in method["expected"]["shortfalls"]
    page = (tmp_path / "out" / "parity.html").read_text()
    assert ">same ranking: not met</td>" in page
    assert "what parts them: channels: largest (100%)" in page


def test_what_cannot_be_compared_meets_nothing(tmp_path: Path) -> None:
    status, said, _ = run(tmp_path, {"methods": ["saliency", "deep_lift"], "expect": "different"})
    assert status == 1
    assert "deep_lift: native nothing compared, canonical nothing compared" in said
    assert "deep_lift (canonical): nothing was compared" in said
    assert "saliency (canonical)" not in said


def test_a_method_that_is_refused_meets_nothing_and_is_on_the_page(tmp_path: Path) -> None:
    data, model = {"factory": "expected_own:rows"}, {"name": "net", "factory": "expected_own:dense"}
    table = {"methods": ["saliency", "kernel_shap"], "expect": "equal to rounding"}
    status, said, numbers = run(tmp_path, table, data=data, models=[model])
    reason = "parity knows the conventions of kernel_shap on images alone; table is none"
    assert status == 1
    assert said.count(f"kernel_shap: {reason}") == 2
    assert numbers["refused"] == {"Kernel SHAP": reason}
    page = " ".join((tmp_path / "out" / "parity.html").read_text().split())
    assert "equal to rounding, which Kernel SHAP does not reach." in page
    assert f"<b>Kernel SHAP</b> could not be compared: {reason}" in page


def test_a_run_takes_no_notice_of_what_parity_expects(tmp_path: Path) -> None:
    (tmp_path / "expected_own.py").write_text(OWN)
    path = tmp_path / "experiment.toml"
    path.write_text(toml({**EXPERIMENT, "parity": {"expect": "identical"}}))
    assert crossxai("compare", str(path), "--out", str(tmp_path / "run")).exit_code == 0
    settings = json.loads((tmp_path / "run" / "manifest.json").read_text())["settings"]
    assert "parity" not in settings


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({"expect": "same"}, (), "parity.expect: Input should be 'identical'"),
        ({"methods": ["salience"]}, (), "did you mean saliency"),
        ({"params": {"salience": {}}}, (), "did you mean saliency"),
        ({"expected": "identical"}, (), "parity.expected"),
        ({}, ("--expect", "same"), "the experiment with these options is not a valid experiment: parity.expect"),
        ({}, ("--profile", "own"), "parity.profile"),
        ({}, ("--method", "salience"), "did you mean saliency"),
    ],
)
def test_wrong_expectations(tmp_path: Path, table: dict[str, Any], options: tuple[str, ...], message: str) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text(toml({**EXPERIMENT, "parity": table}))
    done = crossxai("parity", str(path), *options)
    assert done.exit_code == 2, (done.output, done.exception)
    assert message in " ".join(done.output.split())


def test_the_table_in_the_documentation_is_valid() -> None:
    page = (Path(__file__).parents[1] / "docs" / "parity.md").read_text(encoding="utf-8")
    (table,) = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
    assert check({**EXPERIMENT, **table}).parity.params["occlusion"] == {"patch": 16, "stride": 8}


def test_an_assertion_gives_the_same_reasons() -> None:
    names: dict[str, Any] = {}
    exec(OWN, names)
    images = names["data"]().inputs["image"]
    result = xai.parity(names["net"](), images, "saliency", maps={"mine": np.zeros((3, 12, 12, 1))})
    reasons = result.shortfalls("equal to rounding")
    assert len(reasons) == 1
    assert not result.meets("equal to rounding")
    with pytest.raises(AssertionError) as raised:
        assert_parity(names["net"](), images, "saliency", maps={"mine": np.zeros((3, 12, 12, 1))})
    assert str(raised.value) == reasons[0]
    with pytest.raises(xai.UnknownName, match="same ranking"):
        result.meets("same rankin")
