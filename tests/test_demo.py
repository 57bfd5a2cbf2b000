"""The main job as its user runs it: the README's commands, the page they make, what it finds, and being interrupted."""

from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from typer.testing import CliRunner, Result

from crossxai import cli, files, job, runs, sources
from crossxai.data import histology
from crossxai.evaluation import curves
from crossxai.experiment import ModelSpec, check, load
from crossxai.models import checkpoint

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# The Keras side loads what NumPy 2.4 deprecates; the demo is long, and one warning of a library must not end it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def crossxai(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "100"})


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
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for line in documented():
            program, *words = shlex.split(line)
            if program == "crossxai":
                done = crossxai(*words)
                assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
    return place


def test_every_documented_command_is_ours() -> None:
    known = {"crossxai", "make", "pip", "python"}
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


def test_the_readme_s_python(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "captum.integrated_gradients",
        "xplique.integrated_gradients",
        "gradcam.gradcam",
        "controls.random",
    ]


class Links(HTMLParser):
    """Everything in a page that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "srcset", "poster", "data") or (name == "href" and tag == "link"):
                self.fetched.append(value or "")


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
    for name in ("report.md", "scores.csv", "summary.csv", "report.json", "manifest.json"):
        assert (folder / "out" / "demo" / name).stat().st_size > 500


def test_the_demo_s_numbers(folder: Path, embedded: Path) -> None:
    """The model is right, something beats random and looks at the centre, and the frameworks agree."""
    assert checkpoint.read(embedded).meta["metrics"]["test"]["balanced_accuracy"] >= 0.85
    frame = pd.read_csv(folder / "out" / "demo" / "summary.csv").set_index(["model", "label"])
    assert (frame["status"] == "ok").all()
    assert (frame["degenerate"] == 0).all()
    assert len(frame) == 40
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


def test_what_the_docs_say_of_the_demo(folder: Path) -> None:
    """docs/report.md: black is evidence for this model, the training mean is not; the centre wins; one map under two names."""
    out = folder / "out" / "demo"
    samples = files.read_samples(out / "samples.h5")
    subject = sources.subject(ModelSpec(name="pytorch"), Path())
    chances = {}
    for name, colour in (("black", (0.0, 0.0, 0.0)), ("mean", subject.mean)):
        images = samples.inputs["image"].copy()
        images[:, 32:64, 32:64] = colour
        chances[name] = softmax(subject.model.predict((images,)), axis=1)[:, 1]
    assert (chances["black"] > 0.9).all()
    assert chances["mean"].mean() < 0.6
    frame = pd.read_csv(out / "summary.csv").set_index(["model", "label"])
    assert (frame.drop(index="controls.centre", level=1)["deletion_mean"] > frame["deletion_mean"].min()).all()
    cams = [
        files.read_explanation(out / "explanations" / "keras" / f"gradcam.{name}.h5").values["image"]
        for name in ("gradcam", "hirescam")
    ]
    np.testing.assert_allclose(*cams, atol=1e-4)


def test_areas_and_curves_in_the_files_fit_the_table(folder: Path) -> None:
    out = folder / "out" / "demo"
    frame = pd.read_csv(out / "summary.csv").set_index(["model", "label"])
    for path in sorted((out / "explanations").glob("*/*.h5")):
        explanation = files.read_explanation(path)
        for name in ("deletion", "insertion"):
            scores = explanation.scores[name]
            assert ((scores.curve >= 0) & (scores.curve <= 1)).all()
            assert scores.fractions[0] == 0
            assert scores.fractions[-1] == 1
            expected = np.trapezoid(scores.curve, scores.fractions, axis=1)
            np.testing.assert_allclose(scores.value, expected, atol=1e-12)
            shown = frame.loc[(explanation.model, explanation.label), f"{name}_mean"]
            np.testing.assert_allclose(shown, scores.value.mean(), atol=1e-12)


SMALL: dict[str, Any] = {
    "title": "small",
    "data": {"n": 3},
    "models": [{"name": "pytorch"}],
    "explainers": [{"name": "captum.saliency"}, {"name": "gradcam.gradcam"}, {"name": "controls.random"}],
    "metrics": [{"name": "deletion", "params": {"steps": 4}}],
}


def test_a_stopped_run_goes_on(tmp_path: Path, embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk is not computed again; what is damaged or of another task is; what is no longer named goes away."""
    asked: list[str] = []
    original = job.write_explanation

    def recording(path: Path, explanation: files.Explanation) -> None:
        asked.append(f"{'judge' if explanation.scores else 'explain'} {path.stem}")
        if len(asked) == stop:
            raise KeyboardInterrupt
        original(path, explanation)

    monkeypatch.setattr(job, "write_explanation", recording)
    stop = 3
    with pytest.raises(KeyboardInterrupt):
        runs.run(check(SMALL), tmp_path)
    assert asked == ["explain captum.saliency", "explain gradcam.gradcam", "explain controls.random"]
    assert not (tmp_path / "manifest.json").exists()
    stop, asked[:] = -1, []
    runs.run(check(SMALL), tmp_path)
    assert asked == [
        "explain controls.random",
        "judge captum.saliency",
        "judge gradcam.gradcam",
        "judge controls.random",
    ]
    asked.clear()
    runs.run(check(SMALL), tmp_path)
    assert asked == []

    path = tmp_path / "explanations" / "pytorch" / "captum.saliency.h5"
    path.write_bytes(path.read_bytes()[:1000])
    runs.run(check(SMALL), tmp_path)
    assert asked == ["explain captum.saliency", "judge captum.saliency"]

    asked.clear()
    changed = {
        **SMALL,
        "metrics": [{"name": "deletion", "params": {"steps": 5}}],
        "explainers": SMALL["explainers"][:2],
    }
    runs.run(check(changed), tmp_path)
    assert asked == ["judge captum.saliency", "judge gradcam.gradcam"]
    assert not (tmp_path / "explanations" / "pytorch" / "controls.random.h5").exists()

    asked.clear()
    seeded = {**SMALL, "seed": 1, "data": {"n": 3}}
    runs.run(check(seeded), tmp_path)
    assert len(asked) == 6  # other samples: everything is computed again


def test_only_what_changed_is_judged_again(tmp_path: Path, embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A further metric costs its own passes only; other masks or seeds are another metric."""
    passes: list[int] = []
    original = curves.evaluate

    def counting(question: Any, maps: Any, metrics: Any, progress: Any) -> Any:
        passes.append(curves.passes(question, maps, metrics))
        return original(question, maps, metrics, progress)

    monkeypatch.setattr(curves, "evaluate", counting)
    runs.run(check(SMALL), tmp_path)
    assert passes == [3 * (2 + 3 * 3)]  # both ends once, then three steps for each of three explainers
    more = {**SMALL, "metrics": [{"name": "centre_share"}, *SMALL["metrics"]]}
    runs.run(check(more), tmp_path)
    assert passes[1:] == [0]
    runs.run(check({**more, "metrics": more["metrics"][:1]}), tmp_path)
    assert set(files.read_explanation(tmp_path / "explanations/pytorch/captum.saliency.h5").scores) == {"centre_share"}
    assert sum(passes[1:]) == 0
    seeded = {**SMALL, "metrics": [{"name": "deletion", "params": {"steps": 4, "seed": 3}}]}
    runs.run(check(seeded), tmp_path)
    assert passes[-1] == passes[0]


def test_what_cannot_be_done_is_said_and_the_rest_goes_on(tmp_path: Path, embedded: Path) -> None:
    """A layer that does not exist, a window larger than the image, a centre larger than the image: rows and lines."""
    experiment = {
        **SMALL,
        "explainers": [
            {"name": "captum.occlusion", "params": {"patch": 200, "stride": 100}},
            {"name": "gradcam.gradcam", "params": {"layer": "layer9"}},
            {"name": "controls.random"},
            {"name": "controls.edges"},
        ],
        "metrics": [*SMALL["metrics"], {"name": "centre_share", "params": {"size": 500}}],
    }
    (tmp_path / "e.toml").write_text(toml(experiment))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, (done.output, done.exception)
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for message in ("patch 200 is larger", "'layer9'; did you mean", "cannot be 500 × 500"):
        assert message in text
    assert set(files.read_explanation(tmp_path / "out/explanations/pytorch/controls.edges.h5").scores) == {"deletion"}


def test_two_modalities_in_one_experiment(tmp_path: Path) -> None:
    """An image and a table through factories: joint and single explainers answer, metrics that must choose say so."""
    (tmp_path / "both.py").write_text(BOTH)
    content = {
        "data": {"factory": "both:data", "description": "Made for a test."},
        "models": [{"name": "fusion", "factory": "both:model"}],
        "explainers": [
            {"name": "captum.occlusion", "params": {"patch": 8, "stride": 8}},
            {"name": "xplique.occlusion", "params": {"patch": 2, "stride": 2}},
            {"name": "gradcam.gradcam"},
            {"name": "controls.random"},
        ],
        "metrics": [{"name": "deletion", "params": {"steps": 4, "modality": "image"}}, {"name": "insertion"}],
    }
    (tmp_path / "e.toml").write_text(toml(content))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, (done.output, done.exception)
    for name in ("captum.occlusion", "xplique.occlusion", "controls.random"):
        explanation = files.read_explanation(tmp_path / "out" / "explanations" / "fusion" / f"{name}.h5")
        assert set(explanation.values) == {"image", "table"}
        assert set(explanation.scores) == {"deletion"}
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "gradcam.gradcam needs layers" in text
    assert "insertion" in text


def test_files_of_others_are_left_alone(tmp_path: Path, embedded: Path) -> None:
    precious = [tmp_path / "predictions" / "mine.h5", tmp_path / "explanations" / "mine" / "thesis.h5"]
    for path in precious:
        path.parent.mkdir(parents=True)
        path.write_text("precious")
    runs.run(check(SMALL), tmp_path)
    assert [path.read_text() for path in precious] == ["precious", "precious"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "samples.h5").write_text("precious")
    (tmp_path / "e.toml").write_text(toml(SMALL))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(other))
    assert done.exit_code == 2
    assert "was not written by CrossXAI and would be lost" in " ".join(done.output.split())
    assert (other / "samples.h5").read_text() == "precious"


def test_unsupported_is_a_row_with_its_reason(tmp_path: Path, embedded: Path) -> None:
    """A model without gradients: the perturbation explainers answer, the others say why not."""
    (tmp_path / "mine.py").write_text(
        "from crossxai.adapters.numpy import FunctionModel\n"
        "from crossxai import Modality\n"
        "import numpy as np\n"
        "def brown():\n"
        "    def function(x):\n"
        "        s = (x[:, 32:64, 32:64, 0] - x[:, 32:64, 32:64, 2]).mean(axis=(1, 2))\n"
        "        return np.stack([-s, s], axis=1) * 20\n"
        "    return FunctionModel(function, (Modality.image(),), name='brown')\n"
    )
    names = ("captum.saliency", "captum.occlusion", "controls.random")
    models = [{"name": "brown", "factory": "mine:brown"}]
    (tmp_path / "experiment.toml").write_text(
        toml({**SMALL, "models": models, "explainers": [{"name": n} for n in names]})
    )
    done = crossxai("compare", str(tmp_path / "experiment.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert "Unsupported" in done.output
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "captum.saliency needs gradients, which model" in page
    frame = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("label")
    assert frame.loc["captum.saliency", "status"] == "unsupported"
    assert frame.loc["captum.occlusion", "deletion_mean"] < frame.loc["controls.random", "deletion_mean"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"explainers": [{"name": "captum.salience"}]}, "did you mean captum.saliency"),
        ({"explainers": [{"name": "captum.saliency", "params": {"step": 1}}]}, "no parameter of captum.saliency"),
        ({"explainers": []}, "explainers: Tuple should have at least 1 item"),
        ({"metrics": [{"name": "deletionn"}]}, "did you mean deletion"),
        (
            {"metrics": [{"name": "mask_share", "params": {"mask": "tumour"}}]},
            "no mask 'tumour' in the data; there is stain",
        ),
        ({"metrics": [{"name": "deletion", "params": {"fill": "grey"}}]}, "no fill is called 'grey'"),
        ({"models": [{"name": "a b"}]}, "models.0.name: String should match pattern"),
        ({"models": [{"name": "x"}, {"name": "x"}]}, "models: x appears twice"),
        (
            {"models": [{"name": "x", "framework": "jax"}]},
            "models.0.framework: Input should be 'torch' or 'tensorflow'",
        ),
        ({"models": [{"name": "x", "checkpoint": "nowhere.npz"}]}, "no such file"),
        ({"models": [{"name": "x", "factory": "nowhere:f"}]}, "factory 'nowhere:f' cannot be imported"),
        ({"data": {"n": 100000}}, "data.n = 100000 samples asked for, the split holds 400"),
        ({"data": {"n": 0}}, "data.n: Input should be greater than or equal to 1 (got 0)"),
        ({"data": {"source": "pcam"}}, "source = 'pcam' needs root"),
        ({"data": {"source": "pcam", "root": "nowhere"}}, "camelyonpatch_level_2_split_test_x.h5"),
        ({"datta": {}}, "datta: Extra inputs are not permitted"),
        ({"target": {"of": 7}}, "labels must lie in 0 … 1 for 2 classes"),
        ({"target": {"of": True}}, "target.of"),
        ({"models": [{"name": ".."}]}, "models.0.name: String should match pattern"),
        ({"metrics": [{"name": "deletion"}, {"name": "deletion"}]}, "use one experiment file for each setting"),
        ({"explainers": [{"name": "captum.saliency", "params": {"profile": "native"}}]}, "write it beside them"),
        ({"models": [{"name": "x", "factory": "own:probabilities"}]}, "gives probabilities already"),
        ({"models": [{"name": "x", "factory": "own:nothing"}]}, "gives NaN or infinity"),
        (
            {"models": [{"name": "x", "factory": "own:single"}]},
            'softmax over one output is always 1: write link="sigmoid"',
        ),
        ({"models": [{"name": "x", "factory": "own:other"}]}, "needs photo; the data hold image"),
        ({"models": [{"name": "x", "factory": "own:np"}]}, "not a function"),
    ],
)
def test_wrong_experiments(tmp_path: Path, embedded: Path, change: Any, message: str) -> None:
    """Each from the command line: exit code 2, one message, no traceback."""
    (tmp_path / "own.py").write_text(OWN)
    content = {**SMALL, **change}
    path = tmp_path / "experiment.toml"
    path.write_text(toml(content))
    done = crossxai("compare", str(path), "--out", str(tmp_path / "out"))
    assert done.exit_code == 2, (done.output, done.exception)
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


BOTH = """
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel
from crossxai.files import Samples

MODALITIES = (Modality.image(), Modality.table(('age', 'dose')))

def data():
    rng = np.random.default_rng(0)
    inputs = {'image': rng.random((3, 16, 16, 3), np.float32), 'table': rng.random((3, 2), np.float32)}
    return Samples(('a', 'b', 'c'), MODALITIES, inputs, np.array([0, 1, 1]), ('no', 'yes'))
def model():
    def f(image, table):
        s = 4 * image[:, :8, :8].mean(axis=(1, 2, 3)) * table[:, 0]
        return np.stack([-s, s], axis=1)
    return FunctionModel(f, MODALITIES)
"""

OWN = """
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel

def model(f, name='image'):
    return FunctionModel(f, (Modality.image(name),))
def probabilities():
    return model(lambda x: np.full((len(x), 2), 0.5))
def nothing():
    return model(lambda x: np.full((len(x), 2), np.nan))
def single():
    return model(lambda x: x.mean(axis=(1, 2, 3))[:, None])
def other():
    return model(lambda x: x.mean(axis=(1, 2))[:, :2], 'photo')
"""


def toml(content: dict[str, Any]) -> str:
    """Enough TOML for these experiments: tables, arrays of tables, scalars and inline tables."""

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{ " + ", ".join(f"{k} = {value(v)}" for k, v in item.items()) + " }"
        if isinstance(item, list):
            return "[ " + ", ".join(value(v) for v in item) + " ]"
        return json.dumps(item)

    return "\n".join(f"{key} = {value(item)}" for key, item in content.items())


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


def test_pcam_files_of_ones_own(tmp_path: Path, embedded: Path) -> None:
    """PatchCamelyon's own layout through the experiment file, with a relative root; a truncated file is named."""
    source = embedded.parents[1] / "histology"
    (tmp_path / "pcam").symlink_to(source)
    content = {**SMALL, "data": {"source": "pcam", "root": "pcam", "split": "valid", "n": 2}}
    (tmp_path / "e.toml").write_text(toml(content))
    experiment = load(tmp_path / "e.toml")
    runs.run(experiment, tmp_path / "out")
    samples = files.read_samples(tmp_path / "out" / "samples.h5")
    assert samples.classes == ("normal", "tumour")
    assert sorted(samples.labels.tolist()) == [0, 1]
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in source.glob("*valid*"):
        (bad / path.name).write_bytes(path.read_bytes())
    x = bad / "camelyonpatch_level_2_split_valid_x.h5"
    x.write_bytes(x.read_bytes()[:5000])
    content["data"]["root"] = "bad"
    (tmp_path / "e.toml").write_text(toml(content))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out2"))
    assert done.exit_code == 2
    assert "split_valid_x.h5" in done.output


def test_the_embedded_files_have_pcam_s_layout(embedded: Path) -> None:
    root = embedded.parents[1] / "histology"
    for split in ("train", "valid", "test"):
        with h5py.File(root / f"camelyonpatch_level_2_split_{split}_x.h5") as x:
            assert x["x"].dtype == np.uint8
            assert x["x"].shape[1:] == (96, 96, 3)
        with h5py.File(root / f"camelyonpatch_level_2_split_{split}_y.h5") as y:
            assert y["y"].shape[1:] == (1, 1, 1)
    assert histology.build(root) == root
