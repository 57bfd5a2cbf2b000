"""Torch networks in reduced precision: what torch's own autocast gives, and what it does is measured, kept and said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from experiments import crossxai
from networks import toys
from scipy.stats import spearmanr
from test_report import findings
from torch import nn

import crossxai as xai
from crossxai import Modality, Question, Target
from crossxai.adapters.torch import TorchModel
from crossxai.assumptions.reduced import effect
from crossxai.attention import Streams, Tokens
from crossxai.errors import CrossXAIError, InvalidInput, Unsupported
from crossxai.evaluation import get as get_metric
from crossxai.explainers import get

IMAGE = (Modality.image(),)
MEAN_SD = {"image": ((0.5, 0.4, 0.3), (0.2, 0.3, 0.2))}
N, CLASSES = 5, 4


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)).eval()


def images(n: int = N, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).random((n, side, side, 3), np.float32)


def by_hand(net: nn.Module, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs, and gradients of each sample's first output, by torch's own autocast."""
    mean, sd = (torch.tensor(part).reshape(3, 1, 1) for part in MEAN_SD["image"])
    x = torch.from_numpy(given).movedim(-1, 1).clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net((x - mean) / sd)
    assert outputs.dtype == torch.bfloat16
    outputs[:, 0].sum().backward()
    assert x.grad is not None
    return outputs.detach().float().numpy(), x.grad.movedim(1, -1).numpy()


def test_outputs_and_gradients_are_those_of_autocast() -> None:
    """To the last bit, by arrays and by tensors; the module stays in float32, and an ambient autocast is none of ours."""
    net, given = network(), images()
    outputs, gradients = by_hand(net, given)
    model = TorchModel(net, IMAGE, standardise=MEAN_SD, precision="bf16")
    np.testing.assert_array_equal(model.predict((given,)), outputs)
    weights = np.eye(CLASSES, dtype=np.float32)[np.zeros(N, int)]
    own, (slopes,) = model.vjp((given,), lambda _: weights)
    np.testing.assert_array_equal(own, outputs)
    np.testing.assert_array_equal(slopes, gradients)
    assert own.dtype == slopes.dtype == np.float32
    tensor = torch.from_numpy(given)
    scores, (there,) = model.gradients_there([tensor], torch.from_numpy(weights), "identity")
    np.testing.assert_array_equal(scores.numpy(), outputs[:, 0])
    np.testing.assert_array_equal(there.numpy(), gradients)
    np.testing.assert_array_equal(model.predict_there([tensor]).numpy(), outputs)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert not np.array_equal(TorchModel(net, IMAGE, standardise=MEAN_SD).predict((given,)), outputs)


def test_layers_are_in_it_too() -> None:
    net, given = toys.torch_net(), toys.images()
    model = TorchModel(net, IMAGE, precision="bf16")
    x = torch.from_numpy(given).movedim(-1, 1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = net.conv2(net.relu1(net.conv1(x)))
    outputs, activation, gradient = model.layer_vjp((given,), np.ones_like, "conv2")
    np.testing.assert_array_equal(activation, expected.float().numpy())
    np.testing.assert_array_equal(model.activations((given,))["conv2"], activation)
    np.testing.assert_array_equal(model.replace((given,), "conv2", activation), outputs)
    np.testing.assert_array_equal(outputs, model.predict((given,)))
    assert gradient.dtype == np.float32


def test_the_copies_of_a_model_keep_it() -> None:
    """Folding is measured in float32, and the folded copy runs in bf16; the copy to measure with is exact."""
    net, given = network(), images()
    model = TorchModel(net, IMAGE, standardise=MEAN_SD, precision="bf16")
    folded = model.folded((given[:4],))
    assert not [m for m in folded.module.modules() if isinstance(m, nn.BatchNorm2d)]
    np.testing.assert_array_equal(folded.predict((given,)), by_hand(folded.module, given)[0])
    assert model.randomised((given[:1],), 1, 0).precision == "bf16"
    exact = model.exact()
    assert exact is not None
    assert (exact.precision, exact.dtype) == ("float32", torch.float64)
    full = TorchModel(net, IMAGE, standardise=MEAN_SD)
    np.testing.assert_array_equal(model.in_full().predict((given,)), full.predict((given,)))
    assert full.in_full() is full


@pytest.mark.parametrize(
    ("dtype", "precision", "words"),
    [
        (torch.float64, "bf16", "parameters are float64: write module.float"),
        (torch.bfloat16, "bf16", "parameters are bfloat16"),
        (torch.float32, "float16", "'bf16'; got 'float16'"),
        (torch.float32, None, "'bf16'; got None"),
    ],
)
def test_what_there_is_not(dtype: torch.dtype, precision: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        TorchModel(toys.torch_net().to(dtype), IMAGE, precision=precision)


def test_networks_that_are_not_torch_s() -> None:
    import keras

    net = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D()])
    assert xai.wrap(net, precision="float32", compile=False).framework == "Keras on TensorFlow"
    with pytest.raises(InvalidInput, match=r"precision is of torch networks.*set_dtype_policy\('mixed_bfloat16'\)"):
        xai.wrap(net, precision="bf16")
    with pytest.raises(InvalidInput, match=r"compile is torch.compile, of torch networks"):
        xai.wrap(net, compile=True)
    with pytest.raises(InvalidInput, match="a detector runs in the precision of its weights"):
        xai.wrap(toys.torch_net(), boxes="torchvision", n_classes=2, precision="bf16")


def test_the_effect_is_that_of_two_passes() -> None:
    net, given = network(), images(9)
    model = TorchModel(net, IMAGE, standardise=MEAN_SD, precision="bf16")
    target = Target.classes(np.zeros(9, int), CLASSES)
    found = effect(model, (given,), target)
    assert found is not None
    outputs, gradients = by_hand(net, given)
    x = ((torch.from_numpy(given) - torch.tensor(MEAN_SD["image"][0])) / torch.tensor(MEAN_SD["image"][1])).movedim(
        -1, 1
    )
    x.requires_grad_()
    exact = net(x)
    exact[:, 0].sum().backward()
    slopes = (x.grad.movedim(1, -1) / torch.tensor(MEAN_SD["image"][1])).numpy()  # type: ignore[union-attr]
    gap = np.abs(outputs - exact.detach().numpy())
    np.testing.assert_allclose([found.largest, found.mean], [gap.max(), gap.mean()], rtol=1e-3)
    assert found.changed == (outputs.argmax(1) != exact.detach().numpy().argmax(1)).mean()
    far = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(gradients, slopes, strict=True)]
    ranks = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(gradients, slopes, strict=True)]
    np.testing.assert_allclose([found.distance, found.ranks], [np.median(far[:8]), np.median(ranks[:8])], rtol=0.02)
    assert (found.samples, found.gradients) == (9, 8)
    assert effect(TorchModel(net, IMAGE), (given,)) is None


def test_a_check_tells_it() -> None:
    model = TorchModel(toys.torch_net(), IMAGE, precision="bf16")
    facts = {fact.name: fact for fact in model.check(toys.images(3)).facts}
    assert facts["precision"].verdict == "note"
    assert "of their length (rank correlation" in facts["precision"].found
    assert facts["gradient at image"].verdict == "holds"
    assert "precision" not in {fact.name for fact in TorchModel(toys.torch_net(), IMAGE).check(toys.images(3)).facts}


class Close(nn.Module):
    """Two classes whose logits differ by less than bfloat16 tells apart, by the mean of red: the first is then taken."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(3, 2)
        with torch.no_grad():
            self.dense.weight.copy_(torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
            self.dense.bias.copy_(torch.tensor([4.0, 4.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near = self.dense(x.mean((2, 3)))
        return near + 1e-3 * torch.stack([x[:, 0].mean((1, 2)), 1 - x[:, 0].mean((1, 2))], dim=1).to(near.dtype)


def compared(folder: Path, **options: Any) -> xai.Run:
    given = np.repeat(np.array([0.2, 0.4, 0.6, 0.8], np.float32), 8 * 8 * 3).reshape(4, 8, 8, 3)
    given = np.clip(given + 0.1 * np.random.default_rng(0).normal(size=given.shape), 0, 1).astype(np.float32)
    model = xai.wrap(Close().eval(), modalities=IMAGE, name="close", outputs="logits", **options)
    asked = {"explainers": ["captum.saliency"], "metrics": [("deletion", {"steps": 4})], "controls": False}
    return xai.compare(model, given, out=folder, progress=False, layout="NHWC", **asked)


def test_a_run_measures_it_and_the_page_says_it(tmp_path: Path) -> None:
    """Samples of the second class are taken for the first: a warning. Maps of another precision are none of this one's."""

    def manifest() -> Any:
        return json.loads((tmp_path / "manifest.json").read_text())

    def task() -> Any:
        import h5py

        with h5py.File(tmp_path / "explanations" / "close" / "captum.saliency.h5") as file:
            return file.attrs["task"]

    compared(tmp_path)
    assert "precision" not in manifest()["models"][0]
    assert "reduced_precision" not in findings(tmp_path)
    before = task()
    compared(tmp_path, precision="bf16")
    entry = manifest()["models"][0]["precision"]
    assert (entry["precision"], entry["samples"], entry["changed"]) == ("bf16", 4, 0.5)
    assert manifest()["settings"]["models"][0]["precision"] == "bf16"
    assert task() != before
    finding = findings(tmp_path)["reduced_precision"]
    assert finding["tone"] == "warning"
    assert finding["headline"] == "In bf16, `close` predicts another class than in float32 for 50% of samples."
    page, text = ((tmp_path / f"report.{end}").read_text() for end in ("html", "md"))
    assert "(PyTorch, in bf16)" in page
    assert "the predicted class changes for 50% of samples" in page
    assert "computing of close: bf16 (autocast); measured on 4 samples" in text


def test_shards_of_another_precision_are_not_merged(tmp_path: Path) -> None:
    given = toys.images(4)
    for number, precision in ((1, "float32"), (2, "bf16")):
        model = xai.wrap(toys.torch_net(), modalities=IMAGE, name="net", precision=precision)
        asked = {"explainers": ["captum.saliency"], "metrics": ["deletion"], "controls": False, "progress": False}
        xai.compare(model, given, out=tmp_path, layout="NHWC", shard=(number, 2), **asked)
    with pytest.raises(InvalidInput, match=r"models.0.precision is bf16, there float32"):
        xai.merge(tmp_path)


def ask(**options: Any) -> Question:
    model = TorchModel(toys.torch_net(), IMAGE, **options)
    return Question(model, (toys.images(2),), Target.classes([0, 2], 3), check="off")


def test_what_libraries_run_runs_in_it_or_is_refused() -> None:
    """Captum's own classes get the network under autocast; what takes layers to NumPy, or was made of the module, is refused."""
    from captum.attr import LayerGradientXActivation, Saliency
    from pytorch_grad_cam import GradCAM

    from crossxai.explainers import as_explainer

    question = ask(precision="bf16")
    own = as_explainer(Saliency)(question).values[0]
    x = torch.from_numpy(toys.images(2)[:1]).movedim(-1, 1).clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = question.model.module(x)[0, 0]  # type: ignore[attr-defined]
    score.float().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(own[:1], x.grad.abs().movedim(1, -1).numpy())
    assert not np.array_equal(own, as_explainer(Saliency)(ask()).values[0])
    with pytest.raises(Unsupported, match="runs in float32, and model 'pytorch' computes in bf16"):
        as_explainer(Saliency(question.model.module))(question)  # type: ignore[attr-defined]
    with pytest.raises(Unsupported, match="NumPy, which has no bfloat16"):
        as_explainer(GradCAM)(question)
    with pytest.raises(Unsupported, match="wrap the network without precision='bf16'"):
        get("captum.deep_lift")(question)
    with pytest.raises(CrossXAIError, match=r"shape \(1, 16, 16, 16\)"):  # and none of NumPy's about bfloat16
        as_explainer(lambda m: LayerGradientXActivation(m, m.conv2))(question)


def test_a_metric_that_moves_inputs_knows_it() -> None:
    """The model behind another one is measured with the tolerance of its precision, too."""
    question = replace(ask(precision="bf16"), check="on")
    scores = get_metric("input_shift")(question, get("captum.saliency")(question), get("captum.saliency"))
    assert np.isfinite(scores.value).all()


def test_maps_of_another_precision_are_of_another_model() -> None:
    """Those of this one are evaluated on another machine, too, which may round the last bits in another way."""
    given, net = toys.images(3), toys.torch_net()
    full, own = (xai.wrap(net, modalities=IMAGE, name="net", precision=p) for p in ("float32", "bf16"))
    maps = xai.explain(own, given, "captum.saliency")
    assert maps.origin is not None
    assert maps.origin.preprocessing["precision"] == "bf16"
    moved = replace(maps, origin=replace(maps.origin, outputs=maps.origin.outputs * np.float32(1 + 2**-7)))
    xai.evaluate(own, given, moved, ["deletion"])
    with pytest.raises(InvalidInput, match="that computed in bf16, while model 'net' computes in float32"):
        xai.evaluate(full, given, maps, ["deletion"])


def test_attention_is_recorded_in_it() -> None:
    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3).eval()
    nn.init.normal_(vit.heads.head.weight)
    streams = Streams({"image": Tokens(grid=(4, 4), prefix=1)}, readout=("image", 0))
    full, own = (TorchModel(vit, IMAGE, streams=streams, precision=p) for p in ("float32", "bf16"))
    maps = [xai.explain(model, toys.images(2), "attention.relevance", target=0).values[0] for model in (full, own)]
    assert np.corrcoef(*(values.ravel() for values in maps))[0, 1] > 0.999
    assert not np.array_equal(*maps)


def test_windows_ask_the_network_in_it() -> None:
    net, given = toys.torch_net(), images(2, 48)
    windows, full = (xai.wrap(net, modalities=IMAGE, window=32, precision=p) for p in ("bf16", "float32"))
    found = effect(windows, (given,), Target.classes([0, 1], 3))
    assert found is not None
    assert found.gradients == 2
    assert found.largest == pytest.approx(np.abs(windows.predict((given,)) - full.predict((given,))).max())


def test_on_the_command_line(tmp_path: Path) -> None:
    def said(*words: str) -> str:
        done = crossxai(*words)
        assert done.exit_code == 2, done.output
        return " ".join(done.output.replace("│", " ").split())

    network, out = "torchvision:squeezenet1_1@random", ("--out", str(tmp_path / "out"))
    given = (network, "--data", "photos")
    assert "precision: Input should be 'float32' or 'bf16'" in said("compare", *given, "--precision", "half", *out)
    assert "--precision belong to --model" in said("compare", "examples/first.toml", "--precision", "bf16", *out)
    done = crossxai("check", network, "--size", "32", "--precision", "bf16")
    assert "outputs in bf16 are off by" in " ".join(done.output.split())
