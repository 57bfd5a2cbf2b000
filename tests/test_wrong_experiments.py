"""Wrong experiment files, names, values and folders: exit code 2 and one message that helps, before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from experiments import OWN, SMALL, crossxai, toml


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"explainers": [{"name": "captum.salience"}]}, "did you mean captum.saliency"),
        ({"explainers": [{"name": "captum.saliency", "params": {"step": 1}}]}, "no parameter of captum.saliency"),
        ({"metrics": [{"name": "deletionn"}]}, "did you mean deletion"),
        (
            {"metrics": [{"name": "mask_share", "params": {"mask": "tumour"}}]},
            "no mask 'tumour' in the data; there is stain",
        ),
        ({"metrics": [{"name": "deletion", "params": {"fill": "gray"}}]}, "no fill is called 'gray'"),
        ({"metrics": [{"name": "deletion", "params": {"steps": "all"}}]}, "or 'auto', got 'all'"),
        (
            {"metrics": [{"name": "deletion", "params": {"steps": {"auto": {"precision": -1}}}}]},
            "precision is the half-width of the interval to reach, above 0, got -1",
        ),
        (
            {"metrics": [{"name": "deletion", "params": {"steps": "auto", "score": "ratio"}}]},
            "not score='ratio': write a number of steps, such as steps=100",
        ),
        (
            {"explainers": [{"name": "controls.oracle", "params": {"mask": "tumour"}}]},
            "controls.oracle: no mask 'tumour' in the data; there is stain",
        ),
        (
            {"target": {"measure": "acc"}},
            "target.measure: Input should be 'auto', 'identity', 'softmax', 'sigmoid', 'largest', 'accuracy' or 'dice' (got "
            "'acc')",
        ),
        ({"controls": "all"}, "controls: Input should be a valid boolean"),
        ({"models": [{"name": "a b"}]}, "models.0.name: a name becomes the name of a folder: 1 to 100 letters, digits"),
        ({"models": [{"name": "x"}, {"name": "x"}]}, "models: x appears twice"),
        (
            {"models": [{"name": "x", "framework": "jax"}]},
            "models.0.framework: Input should be 'torch' or 'tensorflow'",
        ),
        ({"models": [{"name": "x", "checkpoint": "nowhere.npz"}]}, "no such file"),
        ({"models": [{"name": "x", "factory": "nowhere:f"}]}, "factory 'nowhere:f' cannot be imported"),
        ({"data": {"n": 100000}}, "data.n = 100000 samples asked for, the data hold 400"),
        ({"data": {"n": 0}}, "data.n: Input should be greater than or equal to 1 (got 0)"),
        ({"data": {"source": "pcam"}}, "source = 'pcam' needs root"),
        ({"data": {"source": "pcam", "root": "nowhere"}}, "camelyonpatch_level_2_split_test_x.h5"),
        ({"datta": {}}, "datta: Extra inputs are not permitted"),
        ({"target": {"of": 7}}, "labels of 2 classes lie in 0 … 1"),
        ({"target": {"of": True}}, "target.of"),
        ({"models": [{"name": ".."}]}, "a dot neither first nor last (got '..')"),
        (
            {"explainers": [{"name": "captum.saliency", "label": "../a"}]},
            "explainers.0.label: a label becomes the name of a file: at most 100 letters, digits, spaces",
        ),
        ({"explainers": [{"name": "captum.saliency", "label": "a "}]}, "neither first nor last (got 'a ')"),
        (
            {"explainers": [{"name": "captum.saliency", "label": x} for x in ("Mine", "mine")]},
            "explainers: Mine, mine appears twice",
        ),
        ({"check": "of"}, "check: Input should be 'on' or 'off'"),
        ({"data": {"factory": "own:ragged"}}, "samples: those of 'image' have different shapes ((8, 9, 3), (9, 9, 3))"),
        ({"data": {"factory": "own:bytes_"}}, "expected float32 or float64, got uint8"),
        ({"data": {"factory": "own:raises"}}, "factory 'own:raises' raises KeyError: 'lost' (own.py, line"),
        ({"metrics": [{"name": "deletion"}, {"name": "deletion"}]}, "give each its own label"),
        ({"explainers": [{"name": "captum.saliency", "params": {"profile": "native"}}]}, "write it beside them"),
        (
            {"models": [{"name": "x", "factory": "own:bounded"}]},
            "cannot be told whether they are logits or probabilities",
        ),
        ({"models": [{"name": "x", "outputs": "logits"}]}, "outputs belongs to a factory's model"),
        ({"models": [{"name": "x", "factory": "own:single", "outputs": "odds"}]}, "models.0.outputs: Input should be"),
        (
            {
                "target": {"measure": "identity"},
                "models": [{"name": n, "factory": f"own:{n}"} for n in ("pair", "halves")],
            },
            "puts two scales into one table (pair logits, halves probabilities)",
        ),
        ({"models": [{"name": "x", "factory": "own:nothing"}]}, "gives NaN or infinity"),
        (
            {"models": [{"name": "x", "factory": "own:single"}]},
            'softmax over one output is always 1: write link="sigmoid"',
        ),
        ({"models": [{"name": "x", "factory": "own:other"}]}, "needs photo; the data hold image"),
        ({"models": [{"name": "x", "factory": "own:np"}]}, "not a function"),
    ],
)
def test_wrong_experiments(tmp_path: Path, untrained: Path, change: Any, message: str) -> None:
    """Each from the command line: exit code 2, one message, no traceback."""
    (tmp_path / "own.py").write_text(OWN)
    content = {**SMALL, **change}
    path = tmp_path / "experiment.toml"
    path.write_text(toml(content))
    done = crossxai("compare", str(path), "--out", str(tmp_path / "out"))
    assert done.exit_code == 2, (done.output, done.exception)
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_wrong_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("title = ")
    (tmp_path / "file").write_text("")
    (tmp_path / "good.toml").write_text(toml(SMALL))
    for words, message in (
        (("compare", str(tmp_path / "none.toml")), "cannot read experiment file"),
        (("compare", str(tmp_path / "broken.toml")), "is not TOML"),
        (("compare", str(tmp_path / "good.toml"), "--out", str(tmp_path / "file")), "cannot write in"),
        (("report", str(tmp_path)), "samples.h5 does not exist"),
    ):
        done = crossxai(*words)
        assert done.exit_code == 2, (done.output, done.exception)
        assert message in " ".join(done.output.split())
