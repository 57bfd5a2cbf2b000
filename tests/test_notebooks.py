"""The notebooks run from top to bottom at their small size, and are kept without outputs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FUSION = ROOT / "notebooks" / "01_multimodal_fusion.ipynb"
PATCHES = ROOT / "notebooks" / "02_patchcamelyon.ipynb"
CHECKS = ROOT / "notebooks" / "03_cross_library_checks.ipynb"
PORT = ROOT / "notebooks" / "04_port.ipynb"

FUSION_RESULTS = """
import json, crossxai
print(json.dumps({
    "package": crossxai.__file__,
    "largest_difference": float(largest_difference),
    "pointing": {n: {e: float(v) for e, v in found.items()} for n, found in pointing_on.items()},
    "relative": {f"{t} {n}": float(v) for (t, n), v in relative.items()},
    "shares": {of: {m: s.mean for m, s in found.items()} for of, found in answers.items()},
    "trained_without": load(checkpoints["ct alone"], "torch").trained_without,
    "joint": [name for name, found in joint_curves.items() if found],
    "reports": sum((FOLDER / "runs" / task / "report.html").is_file() for task in sets),
}))
"""

PATCHES_RESULTS = """
import json, crossxai
print(json.dumps({
    "package": crossxai.__file__,
    "relative": relative,
    "identical": [identical, bool(np.array_equal(own.curve, gradcam_row.curve))],
    "curves": {m: {label: s.curve.shape for label, s in found.items()} for m, found in scores["pytorch"].items()},
    "artefacts": artefacts.to_dict(),
    "answers": answers,
    "page": page.is_file(),
}))
"""

CHECKS_RESULTS = """
import json, crossxai
print(json.dumps({
    "package": crossxai.__file__,
    "apart": float(apart),
    "equal": bool(compared.equal),
    "cause": str(cause),
    "gap": float(gap),
    "left": float(left),
    "adds_up": float(abs(sums["definition"] - sums["change of the score"]).max()),
    "canonical": sorted(set(rungs.canonical)),
    "causes": dict(zip(native.method, native.causes)),
    "named": named,
    "page": page.is_file(),
}))
"""

PORT_RESULTS = """
import json, crossxai
print(json.dumps({
    "package": crossxai.__file__,
    "holds": [ported.certificate.holds, back.certificate.holds],
    "round_trip": round_trip,
    "files": list(files),
    "verdicts": {name: [bool(row["holds"]), row["first layer that differs"], row["convention"]]
                 for name, row in verdicts.iterrows()},
    "measured": float(np.ptp([here.summary["mean"], there.summary["mean"]], axis=0).max()),
    "refused": refused,
    "gap": gap,
}))
"""


def executed(path: Path, results: str, folder: Path) -> Any:
    """A notebook after a run at the small size, in a kernel of this very interpreter, with one more cell: its results."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(results))
    nbformat.write(notebook, folder / path.name)
    environment = {
        **os.environ,
        "CROSSXAI_NOTEBOOK": "small",
        "CROSSXAI_NOTEBOOK_FOLDER": str(folder / "files"),
        "PYTHONPATH": str(ROOT),
    }
    script = str(ROOT / "tests" / "execute_notebook.py")
    command = [sys.executable, script, str(folder / path.name), str(folder / "done.ipynb")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return nbformat.read(folder / "done.ipynb", as_version=4)


@pytest.fixture(scope="module")
def fusion(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return executed(FUSION, FUSION_RESULTS, tmp_path_factory.mktemp("fusion"))


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> Any:
    return executed(PATCHES, PATCHES_RESULTS, tmp_path_factory.mktemp("patches"))


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return executed(CHECKS, CHECKS_RESULTS, tmp_path_factory.mktemp("checks"))


@pytest.mark.process
def test_the_notebook_on_libraries_solves_its_puzzle(checks: Any) -> None:
    found = json.loads(checks.cells[-1].outputs[-1].text)
    assert Path(found["package"]).is_relative_to(ROOT)
    assert found["apart"] < 1e-14
    assert found["equal"]
    assert found["cause"] == "activations = gradient"
    assert found["gap"] > 0.5
    assert found["left"] < 1e-10
    assert found["adds_up"] < 1e-10
    assert set(found["canonical"]) <= {"identical", "equal to rounding"}
    assert found["causes"]["saliency"] == "channels: largest (100%)"
    assert "unexplained" not in found["causes"].values()
    assert found["named"] == {
        "blue first": [["channel_order = bgr"]],
        "a softmax": [["score = probability"]],
        "both": [["score = probability", "channel_order = bgr"]],
    }
    assert found["page"]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return executed(PORT, PORT_RESULTS, tmp_path_factory.mktemp("port"))


@pytest.mark.process
def test_the_notebook_on_ports_names_every_mistake(port: Any) -> None:
    found = json.loads(port.cells[-1].outputs[-1].text)
    assert Path(found["package"]).is_relative_to(ROOT)
    assert found["holds"] == [True, True]
    assert found["round_trip"] < 1e-5
    assert {"certificate.html", "model.keras", "network.py", "weights.pt"} <= set(found["files"])
    assert found["verdicts"] == {
        "none": [True, "", ""],
        "padding on one side": [False, "conv1", ""],
        "Keras's epsilon": [False, "norm1", ""],
        "Keras's momentum": [False, "norm1", ""],
        "order of flattening": [False, "head", ""],
        "a softmax too many": [False, "head", "score = probability"],
    }
    assert found["measured"] < 1e-4
    assert "is another function" in found["refused"]
    assert found["gap"] < 1e-5


@pytest.mark.process
def test_the_fusion_notebook_runs_and_finds_what_it_tells_of(fusion: Any) -> None:
    """A cell that raises ends the run; what is asserted here no training of three epochs can spoil."""
    found = json.loads(fusion.cells[-1].outputs[-1].text)
    assert Path(found["package"]).is_relative_to(ROOT)
    assert found["largest_difference"] < 1e-4
    assert set(found["pointing"]) == {"CT + table", "CT alone"}
    explainers = found["pointing"]["CT alone"]
    assert len(explainers) == 6
    assert all(0 <= value <= 1 for on in found["pointing"].values() for value in on.values())
    assert max(found["relative"].values()) < 1e-3, found["relative"]
    assert len(found["relative"]) == 12
    for shares in found["shares"].values():
        assert sum(shares.values()) == pytest.approx(1)
    assert found["trained_without"] == "table"
    assert found["joint"] == ["joint deletion", "joint insertion"]
    assert found["reports"] == 3


@pytest.mark.process
def test_the_notebook_on_patches_runs_and_finds_what_it_tells_of(patches: Any) -> None:
    found = json.loads(patches.cells[-1].outputs[-1].text)
    assert Path(found["package"]).is_relative_to(ROOT)
    assert found["relative"]["Grad-CAM"] < 1e-3
    assert found["relative"]["IG"] < 1e-2  # noise of ReLUs on their edge, summed over a path
    assert found["identical"] == [True, False]  # of Grad-CAM's maps under IG's name, and of IG's own
    assert set(found["curves"]) == {"deletion", "insertion"}
    assert all(shape == [6, 11] for lines in found["curves"].values() for shape in lines.values())
    assert set(found["curves"]["deletion"]) == {"Grad-CAM", "IG", "LIME", "random", "centre"}
    assert len(found["artefacts"]) == 4
    assert set(found["answers"]) == {"honest", "shortcut"}
    assert found["page"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "figures", "tables"), [("fusion", 30, 8), ("patches", 5, 9), ("checks", 1, 4), ("port", 0, 4)]
)
def test_the_notebooks_show_figures_and_tables(
    name: str, figures: int, tables: int, request: pytest.FixtureRequest
) -> None:
    cells = request.getfixturevalue(name).cells
    shown = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    data = [output.data for output in shown if output.output_type in ("display_data", "execute_result")]
    assert sum("image/png" in d for d in data) >= figures
    assert sum("text/html" in d for d in data) >= tables  # data frames
    said = "".join(output.text for output in shown if output.output_type == "stream" and output.name == "stderr")
    assert "Error" not in said
    assert "Warning" not in said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    for cell in notebook.cells:
        assert not cell.metadata, f"{cell.id} has metadata"
        if cell.cell_type == "code":
            assert cell.outputs == [], f"{cell.id} has outputs: clear them"
            assert cell.execution_count is None, f"{cell.id} has a number: clear it"


def test_notebooks_are_linted_like_the_code() -> None:
    """Ruff reads notebooks by itself, where nothing tells it not to."""
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *map(str, NOTEBOOKS)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No Python files found" not in done.stderr


def test_links_of_the_notebooks_lead_somewhere() -> None:
    for path in NOTEBOOKS:
        text = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_nothing_deeper_than_a_package(path: Path) -> None:
    code = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    modules = re.findall(r"^(?:from|import) (crossxai[\w.]*)", code, re.M)
    assert modules
    assert [m for m in modules if m.count(".") > 1] == []
