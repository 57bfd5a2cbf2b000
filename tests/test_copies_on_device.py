"""Perturbed copies that explainers of ours make on a model's device: the host's maps, few bytes and few waits.

As in `test_on_device`, the way of a device is taken on the CPU, and a wrapper counts what would cross to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from test_on_device import CLASSES, FRAMEWORKS, IMAGE, SIDE, Border, Crossing, Greedy, Two, ask, pretend
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from crossxai import InvalidInput, Largest, Modality, Question, Target, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.tensorflow_backend import KerasBackend
from crossxai.adapters.torch import TorchModel
from crossxai.adapters.torch_backend import TorchBackend
from crossxai.batching import watching
from crossxai.explainers import discover, get

GROUPS = {"patch": 5, "baseline": 0.2}
OURS: list[tuple[str, dict[str, Any]]] = [
    ("reference.occlusion", {"patch": 5, "stride": 3, "baseline": 0.3}),
    ("reference.rise", {"samples": 20, "grid": 5, "baseline": 0.4}),
    ("reference.lime", {"samples": 30, "segmentation": "grid", **GROUPS}),
    ("reference.shapley", {"segmentation": "modalities"}),
    ("reference.kernel_shap", {"samples": 40, **GROUPS}),
    ("captum.lime", {"samples": 30, "profile": "canonical", **GROUPS}),
    ("captum.kernel_shap", {"samples": 40, **GROUPS}),
    ("captum.kernel_shap", {"samples": 40, "profile": "canonical", **GROUPS}),
    ("captum.shapley_value_sampling", {"samples": 3, **GROUPS}),
    ("lime.image", {"samples": 30, "segmentation": "grid", "patch": 5}),
    ("lime.image", {"samples": 30, "segmentation": "slic", "patch": 5, "profile": "canonical", "fill": 0.3}),
]
NAMES = [f"{name}, {params.get('profile', '')}" for name, params in OURS]


Begin = Callable[[], list[Crossing]]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Makes all models take the way of a device, on which no arrays come, and gives the backends that are made from then on."""
    made: list[Crossing] = []

    def predict(*_: Any) -> Any:
        raise AssertionError("arrays went to the model")

    def of_torch(self: TorchModel) -> Crossing:
        made.append(Crossing(TorchBackend(self.device, self.predict_there, self.dtype == torch.float64)))
        return made[-1]

    def of_keras(self: KerasModel) -> Crossing:
        made.append(Crossing(KerasBackend("CPU:0", self.predict_there, self.dtype == tf.float64)))
        return made[-1]

    def start() -> list[Crossing]:
        monkeypatch.setattr(TorchModel, "device_backend", of_torch)
        monkeypatch.setattr(KerasModel, "device_backend", of_keras)
        monkeypatch.setattr(TorchModel, "predict", predict)
        monkeypatch.setattr(KerasModel, "predict", predict)
        return made

    return start


def same(explainer: Any, question: Question, begin: Begin, limit: float = 3e-5) -> list[Crossing]:
    """On the device as on the host, in as many passes, of as many copies at most."""
    host, made, sizes = explainer(question), begin(), list[int]()
    with watching(sizes.append):
        there = explainer(question)
    assert any(backend.puts for backend in made)
    assert max(sizes) <= question.batch_size
    assert sum(sizes) == explainer.cost(question)[0] * len(question)
    for ours, theirs in zip(there.values, host.values, strict=True):
        scale = np.abs(theirs).max()
        assert scale > 0
        np.testing.assert_allclose(ours, theirs, rtol=limit, atol=limit * scale)
    for key, values in host.extras.items():
        np.testing.assert_allclose(there.extras[key], values, rtol=1e-3, atol=1e-4)
    return made


REFERENCE = [name for name in NAMES if name.startswith("reference.")]
QUICK = {
    "torch": [*REFERENCE, "captum.kernel_shap, ", "captum.shapley_value_sampling, ", "lime.image, canonical"],
    "keras": [*REFERENCE[:2], "reference.shapley, "],  # every verb of the backend
}
EVERY = [
    pytest.param(framework, *own, id=f"{name}-{framework}", marks=() if name in QUICK[framework] else pytest.mark.deep)
    for framework in FRAMEWORKS
    for own, name in zip(OURS, NAMES, strict=True)
]


@pytest.mark.parametrize(("framework", "name", "params"), EVERY)
def test_the_hosts_maps(framework: str, name: str, params: Any, begin: Begin) -> None:
    """Of an image and a table at once where the explainer takes both, else of the image, the table held."""
    question = ask(framework, n=3, tables=True)
    same(get(name, **params), question if discover()[name].joint else question.only("image"), begin)


@pytest.mark.parametrize(("name", "params"), OURS[:3] + OURS[-2:], ids=NAMES[:3] + NAMES[-2:])
def test_grey_images_in_float64(name: str, params: Any, begin: Begin) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, CLASSES, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = TorchModel(network.double().eval(), (Modality.image(channels=("grey",)),))
    images = np.random.default_rng(0).random((2, SIDE, SIDE, 1))
    same(get(name, **params), Question(model, (images,), Target.classes([0, 1], CLASSES), batch_size=7), begin, 1e-6)


@pytest.mark.parametrize("name", ["reference.occlusion", "reference.rise", "reference.lime"])
def test_volumes(name: str, begin: Begin) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, CLASSES, 3), nn.Tanh(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    volumes = np.random.default_rng(0).random((2, 6, 7, 9, 1), np.float32)
    model = TorchModel(network.eval(), (Modality.volume(),))
    params = dict(OURS)[name] | ({} if name.endswith("rise") else {"patch": 4})
    same(get(name, **params), Question(model, (volumes,), Target.classes([0, 1], CLASSES), batch_size=7), begin)


@pytest.mark.parametrize("name", ["reference.occlusion", "reference.drise", "reference.kernel_shap"])
def test_scores_that_the_host_computes(name: str, begin: Begin) -> None:
    question = ask("torch", n=2, target=Largest(2, CLASSES))
    params = {"reference.drise": {"samples": 20, "grid": 5}, **dict(OURS)}[name]
    made = same(get(name, **params), question, begin)
    assert sum(backend.waits for backend in made) > 2 * len(question)


def test_a_score_that_is_not_finite_is_refused_in_the_hosts_words(begin: Begin) -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean = x.mean(dim=(2, 3))
            return mean / (mean.amax(dim=1, keepdim=True) > 0.2)

    images = np.random.default_rng(0).random((2, SIDE, SIDE, 3), np.float32)
    question = Question(TorchModel(Broken().eval(), (IMAGE,)), (images,), Target.outputs(0, 2, 3))
    explainers = [
        get(name, samples=30, patch=6, segmentation="grid", **({"fill": 0.0} if name == "lime.image" else {}))
        for name in ("reference.lime", "captum.kernel_shap", "lime.image")
    ]

    def words() -> list[str]:
        refusals = []
        for explainer in explainers:
            with pytest.raises(Unsupported, match="NaN or infinite") as refused:
                explainer(question)
            refusals.append(str(refused.value))
        return refusals

    host = words()
    begin()
    # What a library is asked for at once differs, and so may the number of such copies; everything else is the same.
    assert [words.split(" of them, made of")[1] for words in words()] == [
        words.split(" of them, made of")[1] for words in host
    ]


def test_no_second_softmax(begin: Begin) -> None:
    network = nn.Sequential(Two(), nn.Softmax(dim=1)).eval()
    images = ask("torch", n=2).inputs
    question = Question(TorchModel(network, (IMAGE,)), images, Target.classes([0, 1], CLASSES, "softmax"), check="off")
    begin()
    for name, params in (*OURS[:3], OURS[6]):
        with pytest.raises(InvalidInput, match="second softmax"):
            get(name, **params)(question)


def test_memory_that_runs_out_halves_the_batch(begin: Begin) -> None:
    """Also in the middle of a sum of masks, of which no part counts twice."""
    model = TorchModel(Greedy(torch.cuda.OutOfMemoryError("CUDA out of memory")).eval(), (IMAGE,))
    images = np.random.default_rng(0).random((2, SIDE, SIDE, 3), np.float32)
    question = Question(model, (images,), Target.classes([0, 1], CLASSES), batch_size=16, check="off")
    for name, params in OURS[:3]:
        same(get(name, **params), question, begin)
        assert max(model.module.sizes[-3:]) <= 4
        model.module.sizes.clear()


IMAGE_BYTES, MAP = 4 * 3 * SIDE**2, 4 * SIDE**2


@pytest.mark.parametrize("framework", ["torch", pytest.param("keras", marks=pytest.mark.deep)])
def test_traffic(framework: str, begin: Begin) -> None:
    """A sample crosses once, with its groups; a copy is a few numbers; the host waits once a sample, of occlusion once in all."""
    n, samples, groups = 4, 40, 9
    question = ask(framework, n=n)
    question.trusted()
    made, byte, weight = begin(), 1 if framework == "torch" else 4, CLASSES * (1 if framework == "torch" else 4)

    def crossed(name: str, **params: Any) -> tuple[int, int]:
        before = len(made)
        get(name, **params)(question)
        return sum(b.bytes for b in made[before:]), sum(b.waits for b in made[before:])

    groups_once = IMAGE_BYTES + weight + MAP + 4
    coalitions = (samples + 2) * (groups * byte + 2 * 4)
    for name in ("reference.kernel_shap", "captum.kernel_shap"):
        params = {"profile": "canonical"} if name.startswith("captum") else {}
        assert crossed(name, samples=samples, patch=4, **params) == (n * (groups_once + coalitions), n)
    windows, lines = 9, 2 * (1 + 3) * SIDE * byte + 2 * 4 * SIDE + 4
    expected = n * (IMAGE_BYTES + weight + (1 + windows) * 3 * 4) + lines
    assert crossed("reference.occlusion", patch=4, stride=4) == (expected, 1)
    masks = samples * (25 + 3) * 4 + 2 * 4 * 5 * 18 + 4
    assert crossed("reference.rise", samples=samples, grid=5) == (n * (IMAGE_BYTES + weight + masks), n)
    once = IMAGE_BYTES + weight + MAP + 4
    orders = 3 * groups
    expected = n * (once + (1 + orders) * (groups * byte + 2 * 4))
    assert crossed("captum.shapley_value_sampling", samples=3, patch=4) == (expected, n * (1 + 3))
    expected = n * (2 * IMAGE_BYTES + weight + MAP + samples * (groups * byte + 2 * 4))
    assert crossed("lime.image", samples=samples, segmentation="grid", patch=4) == (expected, n)


def test_nothing_else_waits(begin: Begin) -> None:
    """Torch is asked for numbers where the backend waits, and makes tensors of the host's where it puts them, not elsewhere."""
    question = ask("torch", n=3)
    question.trusted()
    made = begin()
    for name, params in OURS[:3]:
        with Border() as border:
            get(name, **params)(question)
        waits, puts = (sum(getattr(backend, count) for backend in made) for count in ("waits", "puts"))
        assert (border.waits, border.host, border.made) == (waits, waits + puts, 0)
        made.clear()


def test_no_tensor_is_left_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's pretended tensors of a GPU that is not there, which refuse to meet one of the CPU, or to tell a number."""
    cuda, taken = pretend(monkeypatch, lambda n: np.linspace(0, 1, n, dtype=np.float32))
    question = ask("torch", n=2)
    with FakeTensorMode():
        with cuda:
            module = Two().eval()
        model = TorchModel(module, (IMAGE,), device=cuda, standardise={"image": ((0.5,) * 3, (0.2,) * 3)})
        there = Question(model, question.inputs, question.target, batch_size=7, check="off")
        for name, params in OURS[:5]:
            get(name, **params)(there)
    assert len(taken) == 1 + 4 * len(question)
