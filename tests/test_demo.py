"""The main job as its user runs it: the README's commands, the page they make, and what it finds."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from experiments import crossxai
from scipy.special import softmax

from crossxai import files
from crossxai.experiment.loading import load_model
from crossxai.experiment.specification import ModelSpec
from crossxai.studies.networks import weight_files
from crossxai.studies.pcam import histology

ROOT = Path(__file__).parents[1]
# The commands of these are run by test_documented_commands, test_explanations, test_workshop, test_by_name, test_pcam_study and
# test_scans.
ELSEWHERE = ("command-line.md", "explanations.md", "medical.md", "models.md", "pcam.md", "volumes.md")
DOCUMENTS = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name not in ELSEWHERE)]


def documented() -> list[str]:
    """Every `crossxai …` line in the console blocks of the README and the docs, in order, once."""
    lines = [
        line.removeprefix("$ ").strip()
        for path in DOCUMENTS
        for block in re.findall(r"```console\n(.*?)```", path.read_text(encoding="utf-8"), re.S)
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    return list(dict.fromkeys(line.partition("  #")[0].strip() for line in lines))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> Path:
    """Where all documented commands have run, in order, exactly as they are printed."""
    place = tmp_path_factory.mktemp("user")
    (place / "examples").symlink_to(ROOT / "examples")
    runpy.run_path(str(ROOT / "benchmarks" / "first_report.py"))["written"](place)  # photos and own.pt
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for line in documented():
            program, *words = shlex.split(line)
            if program == "crossxai":
                done = crossxai(*words)
                assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
    return place


def test_every_documented_command_is_ours() -> None:
    known = {"crossxai", "make", "pip", "pytest", "python"}
    lines = documented()
    assert {line.split()[0] for line in lines} <= known
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for line in lines:
        program, *words = line.split()
        if program == "make":
            assert {w for w in words if "=" not in w} <= targets, line
        if program == "python":
            assert (ROOT / words[0]).is_file(), line
    assert "crossxai demo" in lines


def test_the_readme_s_python(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert runpy.run_path(str(ROOT / "examples" / "train_faces.py"))["train"](Path("out/faces.keras")) > 0.9
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    said = capsys.readouterr().out
    for name in (
        "captum.integrated_gradients",
        "captum.occlusion",
        "gradcam.gradcam",
        "xplique.saliency",
        "By deletion",
    ):
        assert name in said
    assert Path("out/faces/maps.png").stat().st_size > 10000
    assert Path("out/faces/report.html").is_file()


@pytest.mark.process
def test_the_ten_line_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "train_faces.py"), run_name="__main__")
    for script, folder in (("keras_file", "faces"), ("torchvision_photographs", "photographs")):
        path = ROOT / "examples" / f"{script}.py"
        lines = [
            x
            for x in path.read_text(encoding="utf-8").splitlines()
            if x and not x.startswith(('"""', "import", "from"))
        ]
        assert len(lines) <= 10, script
        runpy.run_path(str(path))
        assert Path(f"out/{folder}/maps.png").stat().st_size > 10000
        assert Path(f"out/{folder}/report.html").is_file()


class Links(HTMLParser):
    """Everything in a page that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "poster", "data") or (name == "href" and tag == "link"):
                self.fetched.append(value or "")


@pytest.mark.process
def test_the_demo_s_page(folder: Path) -> None:
    page = (folder / "out" / "demo" / "report.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert links.fetched
    assert all(link.startswith("data:") for link in links.fetched)
    assert not re.search(r"url\(\s*['\"]?(?!data:)", page)
    assert "@import" not in page
    for name in ("captum.integrated_gradients", "gradcam.gradcam", "lime.image", "xplique.rise", "controls.random"):
        assert name in page
    assert "Where the attribution goes" in page
    assert "Shortcut?" not in page, "the embedded network looks at no place off the centre"
    for name in ("report.md", "scores.csv", "summary.csv", "report.json", "manifest.json"):
        assert (folder / "out" / "demo" / name).stat().st_size > 500


@pytest.mark.process
def test_the_demo_s_numbers(folder: Path, embedded: Path) -> None:
    """The model is right, something beats random and looks at the centre, and the frameworks agree."""
    assert weight_files.read(embedded).meta["metrics"]["test"]["balanced_accuracy"] >= 0.85
    frame = pd.read_csv(folder / "out" / "demo" / "summary.csv").set_index(["model", "label"])
    assert (frame["status"] == "ok").all()
    assert (frame["degenerate"] == 0).all()
    assert len(frame) == 42
    explainers = frame[frame["library"] != "controls"]
    wins = explainers[
        (explainers["deletion_versus_random_p"] < 0.05)
        & (explainers["deletion_versus_random_difference"] < 0)
        & (explainers["centre_share_low"] > 1.25 * 32**2 / 96**2)
    ]
    assert len(wins) >= 1, explainers[["deletion_mean", "deletion_versus_random_p", "centre_share_mean"]]
    ours, theirs = frame.loc["pytorch"], frame.loc["keras"]
    for metric in ("deletion", "insertion", "centre_share", "mask_share"):
        np.testing.assert_allclose(ours[f"{metric}_mean"], theirs[f"{metric}_mean"], atol=0.02, err_msg=metric)
    report = json.loads((folder / "out" / "demo" / "report.json").read_text())
    assert any("canonical" in point for finding in report["findings"] for point in finding["points"])
    assert {(r["model"], r["metric"], len(r["places"])) for r in report["rankings"]} == {
        (model, metric, 17) for model in ("pytorch", "keras") for metric in ("deletion", "insertion")
    }


@pytest.mark.process
def test_what_the_docs_say_of_the_demo(folder: Path) -> None:
    """docs/report.md: black is evidence for this model, the training mean is not; the centre wins; one map under two names."""
    out = folder / "out" / "demo"
    samples = files.read_samples(out / "samples.h5")
    subject = load_model(ModelSpec(name="pytorch"), Path())
    chances = {}
    for name, colour in (("black", (0.0, 0.0, 0.0)), ("mean", subject.mean["image"])):
        images = samples.inputs["image"].copy()
        images[:, 32:64, 32:64] = colour
        chances[name] = softmax(subject.model.predict((images,)), axis=1)[:, 1]
    assert (chances["black"] > 0.9).all()
    assert chances["mean"].mean() < 0.6
    frame = pd.read_csv(out / "summary.csv").set_index(["model", "label"])
    assert (frame.drop(index="controls.centre", level=1)["deletion_mean"] > frame["deletion_mean"].min()).all()
    # The oracle is second to it in deletion, and best in insertion; its map is all inside the centre.
    for model in ("pytorch", "keras"):
        assert frame.loc[model]["deletion_mean"].nsmallest(2).index[1] == "controls.oracle"
        assert frame.loc[model]["insertion_mean"].idxmax() == "controls.oracle"
        assert frame.loc[(model, "controls.oracle"), "centre_share_mean"] == 1
    truth = samples.truth["image"]
    stain = samples.masks["stain"][:, 32:64, 32:64]
    assert truth.sum() == truth[:, 32:64, 32:64].sum()
    np.testing.assert_array_equal(truth[:, 32:64, 32:64], stain == (samples.labels == 1)[:, None, None])
    cams = [
        files.read_result(out / "explanations" / "keras" / f"gradcam.{name}.h5").maps["image"]
        for name in ("gradcam", "hirescam")
    ]
    np.testing.assert_allclose(*cams, atol=1e-4)


@pytest.mark.process
def test_what_the_docs_say_of_the_ranking_of_explainers(folder: Path) -> None:
    """docs/evaluation.md: black instead of the mean colour turns the ranking round, another step rule does not."""
    frame = pd.read_csv(folder / "out" / "demo" / "preset_flips.csv").set_index(["kind", "a", "b"])
    assert (frame["pairs"] == 210).all()
    for kind in ("deletion", "insertion"):
        assert frame.loc[(kind, "ours", "xplique"), "share"] > 0.5
        assert frame.loc[(kind, "ours", "pnpxai"), "share"] < 0.4
    means = pd.read_csv(folder / "out" / "demo" / "presets.csv").set_index(["kind", "preset", "label"])
    verdicts = {
        p: means.loc[("deletion", p, "controls.oracle"), "versus_random"] for p in ("ours", "pnpxai", "xplique")
    }
    assert verdicts == {"ours": "better", "pnpxai": "better", "xplique": "not told apart"}


@pytest.mark.process
def test_areas_and_curves_in_the_files_fit_the_table(folder: Path) -> None:
    out = folder / "out" / "demo"
    frame = pd.read_csv(out / "summary.csv").set_index(["model", "label"])
    for path in sorted((out / "explanations").glob("*/*.h5")):
        explanation = files.read_result(path)
        for name in ("deletion", "insertion"):
            scores = explanation.scores[name]
            assert ((scores.curve >= 0) & (scores.curve <= 1)).all()
            assert scores.fractions[0] == 0
            assert scores.fractions[-1] == 1
            expected = np.trapezoid(scores.curve, scores.fractions, axis=1)
            np.testing.assert_allclose(scores.value, expected, atol=1e-12)
            shown = frame.loc[(explanation.model, explanation.label), f"{name}_mean"]
            np.testing.assert_allclose(shown, scores.value.mean(), atol=1e-12)


def test_the_embedded_files_have_pcam_s_layout(untrained: Path) -> None:
    root = untrained.parents[1] / "histology"
    for split in ("train", "valid", "test"):
        with h5py.File(root / f"camelyonpatch_level_2_split_{split}_x.h5") as x:
            assert x["x"].dtype == np.uint8
            assert x["x"].shape[1:] == (96, 96, 3)
        with h5py.File(root / f"camelyonpatch_level_2_split_{split}_y.h5") as y:
            assert y["y"].shape[1:] == (1, 1, 1)
    assert histology.build(root) == root
