"""Segmentation networks and detectors on plain pictures: which class or box is explained is said, else asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments import crossxai
from PIL import Image

import crossxai as xai
from crossxai.cli.given import target_of
from crossxai.experiment.results import Run
from crossxai.files import read_samples

OWN = '''
import torch
import crossxai as xai

class Cells(torch.nn.Module):
    """A detector with a box at each cell of 8 x 8 pixels, which scores red and green by their mean there."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 3, 1)

    def forward(self, images):
        scores = torch.nn.functional.avg_pool2d(images, 8)[:, :2].flatten(2)
        y, x = torch.meshgrid(*[torch.arange(n // 8) * 8 + 4.0 for n in images.shape[2:]], indexing="ij")
        boxes = torch.stack([x, y, torch.full_like(x, 8), torch.full_like(x, 8)]).flatten(1)
        return torch.cat([boxes.expand(len(images), -1, -1), scores], 1)

def detector():
    return xai.wrap(Cells().eval(), boxes="ultralytics", n_classes=2)

def segmenter():
    net = torch.nn.Conv2d(3, 3, 1).eval()
    with torch.no_grad():
        net.weight[:] = torch.eye(3)[:, :, None, None] * 4
        net.bias[:] = 0
    return xai.wrap(net, output_axes=("y", "x", "class"))
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures: red at the left and green at the right, brightest in one cell each; and the models' file."""
    place = tmp_path_factory.mktemp("dense")
    for number, (row, column) in enumerate([(1, 0), (0, 2)]):
        picture = np.zeros((16, 24, 3), np.uint8)
        picture[:, :12, 0], picture[:, 12:, 1] = 100, 80
        picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8, number] = 250
        (place / "photos").mkdir(exist_ok=True)
        Image.fromarray(picture).save(place / "photos" / f"{number}.png")
    (place / "own_dense.py").write_text(OWN)
    return place


def command(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.chdir(folder)
    return crossxai(*words)


def test_a_detector_is_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = command(
        folder, monkeypatch, "compare", "--model", "own_dense:detector", "--data", "photos", "--explainers",
        "captum.occlusion,captum.saliency", "--metrics", "deletion", "--out", "out/boxes",
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    run = Run(folder / "out" / "boxes")
    page = (folder / "out" / "boxes" / "report.html").read_text(encoding="utf-8")
    assert "overlap times score of the strongest detection" in page
    assert "Turquoise line: the box" in page
    assert "captum.saliency needs gradients" in page
    scores = run.scores[run.scores["explainer"] == "captum.occlusion"]
    assert len(scores) == 2
    assert np.isfinite(scores["value"]).all()


def test_a_segmentation_asks_for_its_class(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = command(
        folder, monkeypatch, "explain", "--model", "own_dense:segmenter", "--data", "photos", "-e", "captum.saliency"
    )
    assert said.exit_code == 2
    words = " ".join(said.output.split())
    assert "segments 3 classes: say which is explained, [target] output = 1 in a file, --target class=1" in words
    assert "0 (50%), 1 (50%)" in words


@pytest.mark.parametrize("target", ["1", "class=1 region=predicted"])
def test_a_class_over_its_predicted_region(folder: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """The gradient of the mean of the class's output over the right half: its weight over the number of pixels."""
    said = command(
        folder, monkeypatch, "explain", "--model", "own_dense:segmenter", "--data", "photos", "-e", "captum.saliency",
        "--target", target, "--out", "out/region",
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    assert "mean over the predicted class 1 region" in " ".join(said.output.split())
    values = xai.Attribution.load(folder / "out" / "region" / "maps.h5").of("image")
    expected = np.zeros((2, 16, 24, 3))
    expected[:, :, 12:, 1] = 4 / (16 * 12)
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_several_classes_and_pictures_without_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each class of each picture; a class that is predicted nowhere is left out with its reason."""
    Image.fromarray(np.full((16, 24, 3), (90, 0, 0), np.uint8)).save(folder / "photos" / "red.png")
    try:
        said = command(
            folder, monkeypatch, "compare", "--model", "own_dense:segmenter", "--data", "photos", "--explainers",
            "captum.saliency", "--metrics", "deletion", "--target", "class=0,1", "--out", "out/several",
        )  # fmt: skip
    finally:
        (folder / "photos" / "red.png").unlink()
    assert said.exit_code == 0, said.output
    run = Run(folder / "out" / "several")
    samples = read_samples(folder / "out" / "several" / "samples.h5")
    assert samples.ids == ("0 class 0", "0 class 1", "1 class 0", "1 class 1", "red class 0")
    assert samples.groups == ("0", "0", "1", "1", "red")
    assert run.left_out == {"red": "class 1: predicted nowhere"}
    maps = run.maps["captum.saliency"].of("image")
    assert (np.abs(maps).sum((1, 2)) > 0).tolist() == [[True, False, False], [False, True, False]] * 2 + [
        [True, False, False]
    ]
    page = (folder / "out" / "several" / "report.html").read_text(encoding="utf-8")
    assert "each class of 0, 1, mean over its region" in page
    assert "class 1: predicted nowhere" in page


def test_groups_name_pictures_and_not_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "patients.csv").write_text("id,group\n0,anna\n1,bert\n")
    said = command(
        folder, monkeypatch, "compare", "--model", "own_dense:segmenter", "--data", "photos", "--explainers",
        "captum.saliency", "--metrics", "deletion", "--target", "class=0,1", "--set", "data.groups=patients.csv",
        "--out", "out/groups",
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    assert read_samples(folder / "out" / "groups" / "samples.h5").groups == ("anna", "anna", "bert", "bert")


def test_the_same_in_python() -> None:
    torch.manual_seed(0)
    net = torch.nn.Conv2d(3, 3, 1).eval()
    net.weight.data[:], net.bias.data[:] = torch.eye(3)[:, :, None, None], 0  # type: ignore[index]
    model = xai.wrap(net, output_axes=("y", "x", "class"))
    images = np.random.default_rng(0).random((2, 8, 8, 3), dtype=np.float32)
    region = model.predict((images,)).argmax(-1) == 1
    by_hand = xai.explain(model, images, "captum.integrated_gradients", xai.Target.regions(region, 1, 3))
    by_class = xai.explain(model, images, "captum.integrated_gradients", target=1)
    np.testing.assert_array_equal(by_hand.of("image"), by_class.of("image"))


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("predicted", {"of": "predicted"}),
        ("7", {"of": 7}),
        ("class=2", {"of": 2}),
        ("class=2 region=label", {"of": "label", "output": 2}),
        ("region=predicted class=0", {"of": "predicted", "output": 0}),
        ("class=1,2", {"of": "predicted", "output": [1, 2]}),
        ("mask=lesion", {"of": "label", "mask": "lesion"}),
        ("output=1", {"of": "predicted", "output": 1}),
    ],
)
def test_a_target_on_the_command_line(written: str, target: dict[str, Any]) -> None:
    assert target_of(written) == target


@pytest.mark.parametrize("written", ["class=cat", "class=1 output=2", "colour=3", "class=2 dog", " "])
def test_a_wrong_target_is_refused(written: str) -> None:
    with pytest.raises(xai.InvalidInput, match="write predicted, label, a class"):
        target_of(written)
