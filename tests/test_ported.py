"""Networks brought to the other framework: the files a colleague gets, and the certificate, which names a port's mistakes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from documented import commands, followed
from networks import families
from torch import nn
from typer.testing import CliRunner

import crossxai as xai
from crossxai.cli import app
from crossxai.porting import twin
from crossxai.porting.torch_source import source

IMAGES = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)


class Block(nn.Module):
    """A residual network in small: a strided branch, a sum, a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.side = nn.Conv2d(6, 4, 1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(10 * 16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        y = self.relu(self.norm2(self.conv2(x)) + x)
        y = torch.cat([y, self.side(x).sigmoid()], dim=1)
        return self.head(nn.functional.max_pool2d(y, 2).flatten(1))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    net = Block().eval()
    for norm in (net.norm1, net.norm2):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.005, 0.05)
    return net


@pytest.fixture(scope="module")
def ported(network: nn.Module) -> Any:
    return xai.port(network, "keras", IMAGES)


def test_a_port_to_keras_holds(ported: Any, tmp_path: Path) -> None:
    assert ported.certificate.holds
    kinds = {(line.kind, line.dtype) for line in ported.certificate.lines}
    assert {("outputs", "float64"), ("gradients", "float64"), ("explanation", "float32")} <= kinds
    assert all(
        line.value <= 1e-10 for line in ported.certificate.lines if (line.kind, line.dtype) == ("outputs", "float64")
    )
    assert [line.name for line in ported.certificate.lines if line.kind == "explanation" and line.reason] == []
    assert {"conv1", "norm2", "side"} <= {pair.one for pair in ported.certificate.layers}
    ported.save(tmp_path)
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(again(IMAGES)), np.asarray(ported.module(IMAGES)))
    facts = json.loads((tmp_path / "certificate.json").read_text(encoding="utf-8"))
    assert facts["holds"]
    assert facts["files"] == {"model.keras": hashlib.sha256((tmp_path / "model.keras").read_bytes()).hexdigest()}
    weights = [network["weights"] for network in facts["networks"]]
    assert all(len(digest) == 64 for digest in weights)
    page = (tmp_path / "certificate.html").read_text(encoding="utf-8")
    assert "The certificate holds" in page
    assert all(digest in page for digest in (*weights, *facts["files"].values(), facts["samples"]["sha256"]))
    explained = {line.name for line in ported.certificate.lines if line.kind == "explanation"}
    assert {pair.method for pair in ported.certificate.maps} == explained
    assert all(pair.one.shape[:2] == IMAGES.shape[1:3] for pair in ported.certificate.maps)


def test_the_round_trip_is_a_file_that_runs_alone(ported: Any, network: nn.Module, tmp_path: Path) -> None:
    back = xai.port(ported.model, "torch", IMAGES, out=tmp_path)
    assert back.certificate.holds
    given = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous()
    np.save(tmp_path / "given.npy", given.numpy())
    program = (
        "import sys, numpy, torch\n"
        "import network as file\n"
        "net = file.Network()\n"
        "net.load_state_dict(torch.load('weights.pt', weights_only=True))\n"
        "outputs = net.eval()(torch.from_numpy(numpy.load('given.npy')))\n"
        "assert not any(name.startswith('crossxai') for name in sys.modules)\n"
        "numpy.save('outputs.npy', outputs.detach().numpy())\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    with torch.no_grad():
        np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), network(given).numpy(), atol=1e-5)
    text = (tmp_path / "network.py").read_text(encoding="utf-8")
    assert "self.conv1 = nn.Conv2d(3, 6, kernel_size=(3, 3), stride=(2, 2)" in text
    assert "x = self.conv1(image)" in text


def test_a_name_is_no_code(ported: Any) -> None:
    """A model's name stands in the file's docstring."""
    wrapped = xai.wrap(ported.module, name='"""\nraise SystemExit\n"""')
    back = xai.port(wrapped, "torch", IMAGES)
    compile(source(back.module, back._about, *back._ends), "network.py", "exec")
    assert "raise SystemExit\n" not in back._about


def change(name: str, place: int, how: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A mistake in one array of one layer of the Keras model."""

    def apply(model: Any) -> None:
        layer = model.get_layer(name)
        weights = layer.get_weights()
        weights[place] = how(weights[place])
        layer.set_weights(weights)

    return apply


MISTAKES: dict[str, tuple[str, Callable[[Any], None]]] = {
    "missing bias": ("conv1", change("conv1", 1, np.zeros_like)),
    "stale weight": ("conv2", change("conv2", 0, lambda w: w + 1e-4 * np.eye(6, dtype=w.dtype))),
    "flatten order": ("head", change("head", 0, lambda w: w.reshape(10, 16, 4).transpose(1, 0, 2).reshape(160, 4))),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_certificate_of_a_wrong_port_names_the_layer(network: nn.Module, ported: Any, mistake: str) -> None:
    layer, apply = MISTAKES[mistake]
    model = keras.models.clone_model(ported.module)
    model.set_weights(ported.module.get_weights())
    apply(model)
    certificate = xai.certify(network, model, IMAGES)
    assert not certificate.holds
    assert certificate.first is not None
    assert certificate.first.other == layer
    assert "fails" in repr(certificate)


def test_a_norm_whose_mean_is_nothing_but_rounding_trains_alike() -> None:
    """Behind another norm, in training mode, a convolution without bias gives a mean of zero, as in MobileNet v2."""
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 8, 1, bias=False))
    net = nn.Sequential(convolutions[0], nn.BatchNorm2d(6), convolutions[1], nn.BatchNorm2d(8), nn.Flatten())
    certificate = xai.port(nn.Sequential(net, nn.Linear(8 * 14 * 14, 4)).eval(), "keras", IMAGES).certificate
    assert [line.holds for line in certificate.lines if line.kind == "training"] == [True]


def test_a_layer_without_translation_is_named() -> None:
    class Sorted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).sort(dim=1).values[:, :4]

    model = xai.wrap(Sorted().eval(), modalities=(xai.Modality.image(),))
    with pytest.raises(xai.Unsupported, match="sort"):
        xai.port(model, "keras", IMAGES)
    with pytest.raises(xai.InvalidInput, match='"keras" or "torch"'):
        xai.port(model, "jax", IMAGES)  # type: ignore[arg-type]


def test_the_commands(ported: Any, tmp_path: Path) -> None:
    ported.save(tmp_path)
    given, wrong = str(tmp_path / "model.keras"), tmp_path / "wrong.keras"
    result = CliRunner().invoke(app, ["port", given, "--to", "torch", "--size", "16", "--out", str(tmp_path / "torch")])
    assert result.exit_code == 0, result.output
    assert "The certificate holds" in result.output
    assert {path.name for path in (tmp_path / "torch").iterdir()} == {
        "network.py", "network.pt2", "weights.pt", "certificate.json", "certificate.html",
    }  # fmt: skip
    again = json.loads((tmp_path / "torch" / "certificate.json").read_text(encoding="utf-8"))["command"]
    assert again == f"crossxai port {given} --to torch --size 16 --samples 4 --out {tmp_path / 'torch'}"
    back = f"{tmp_path / 'torch' / 'network.py'}:load"
    result = CliRunner().invoke(app, ["check", back, "--size", "16"])
    assert result.exit_code == 0, result.output
    assert "model network" in result.output
    result = CliRunner().invoke(app, ["check", back.removesuffix(":load")])
    assert "network.py:load" in " ".join(result.output.split())
    np.testing.assert_allclose(xai.wrap(back).predict((IMAGES,)), ported.model.predict((IMAGES,)), atol=1e-5)
    model = keras.saving.load_model(given)
    MISTAKES["missing bias"][1](model)
    model.save(wrong)
    np.save(tmp_path / "images.npy", IMAGES)
    options = ["--data", str(tmp_path / "images.npy"), "--out", str(tmp_path / "c.json")]
    result = CliRunner().invoke(app, ["certify", given, str(wrong), *options])
    assert result.exit_code == 1, result.output
    assert "first layer that differs is 'conv1'" in " ".join(result.output.split())
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["first_layer_that_differs"]["one"] == "conv1"
    assert "The first layer that differs is <code>conv1</code>" in (tmp_path / "c.html").read_text(encoding="utf-8")


@pytest.mark.deep
def test_the_documented_commands(tmp_path: Path) -> None:
    lines = commands("certificate.md")
    assert [line.split()[1] for line in lines] == ["port", "certify", "port", "check"]
    followed(tmp_path, lines)


def test_two_files_of_one_name_are_two_networks(tmp_path: Path) -> None:
    for place, wide in (("one", 3), ("two", 5)):
        (tmp_path / place).mkdir()
        text = f"from torch import nn\n\ndef load():\n    return nn.Linear(4, {wide}).eval()\n"
        (tmp_path / place / "network.py").write_text(text, encoding="utf-8")
    shapes = [xai.wrap(f"{tmp_path / p / 'network.py'}:load").predict((np.ones((1, 4)),)).shape for p in ("one", "two")]
    assert shapes == [(1, 3), (1, 5)]


def test_a_program_of_torch_export_is_ported(network: nn.Module, tmp_path: Path) -> None:
    program = torch.export.export(network, (torch.rand(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "network.pt2")
    there = xai.port(xai.wrap(str(tmp_path / "network.pt2"), trust=True), "keras", IMAGES)
    itself = xai.wrap(program)  # as it is
    np.testing.assert_array_equal(itself.predict((IMAGES,)), there.original.predict((IMAGES,)))
    assert itself.modalities == there.original.modalities
    fixed = torch.export.export(network, (torch.rand(2, 3, 16, 16),))
    with pytest.raises(xai.InvalidInput, match="the program was exported for batches of exactly 2"):
        xai.wrap(fixed)
    assert there.certificate.holds
    with torch.no_grad():
        outputs = network(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    np.testing.assert_allclose(np.asarray(there.module(IMAGES)), outputs, atol=1e-5)


class Tokens(nn.Module):
    """Attention, tokens first and samples first, of the pixels of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.MultiheadAttention(6, 2), nn.MultiheadAttention(6, 3, batch_first=True)
        self.stem, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).permute(2, 0, 1)
        x = (x + self.first(x, x, x, need_weights=False)[0]).transpose(0, 1)
        return self.head(self.second(x, x.flip(1), x, need_weights=False)[0].amax(1))


def test_attention_that_torch_export_took_apart() -> None:
    torch.manual_seed(0)
    net = Tokens().double().eval()
    images = IMAGES.astype(np.float64)
    given = torch.from_numpy(images).permute(0, 3, 1, 2)
    program = torch.export.export(net, (given,), dynamic_shapes=({0: torch.export.Dim("n")},))
    assert any("scaled_dot_product" in str(node.target) for node in program.graph.nodes)
    for framework in ("torch", "keras"):
        assert twin(xai.wrap(program), (images,), framework).gap < 1e-10  # type: ignore[arg-type]
    with pytest.raises(xai.Unsupported, match=r"run_decompositions\(\) took the layers of this program apart"):
        twin(xai.wrap(program.run_decompositions()), (images,), "keras")


DEEP = [pytest.param(name, marks=pytest.mark.deep) for name in ("shufflenet_v2_x0_5", "vit_b_16", "swin_t")]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", *DEEP])
def test_published_networks_as_programs(name: str) -> None:
    net = families.torchvision_network(name).double()
    images = np.random.default_rng(0).random((3, 64, 64, 3))
    given = torch.from_numpy(images).permute(0, 3, 1, 2)
    program = torch.export.export(net, (given,), dynamic_shapes=({0: torch.export.Dim("n")},)).module()
    wrapped = xai.wrap(program, modalities=(xai.Modality.image(),))
    assert twin(wrapped, (images,), "keras").gap < 1e-10
