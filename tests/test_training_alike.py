"""A port trains as its original does: the gradients of its weights, and losses step by step, in either framework."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import torchvision
from networks import families
from torch import nn

import crossxai as xai
from crossxai.porting import twin

IMAGES = np.random.default_rng(0).random((6, 32, 32, 3))
LABELS = np.array([0, 3, 1, 2, 2, 0])
RATE = 2.0**-7  # Keras keeps it in float32


class Shared(nn.Module):
    """A layer that runs twice, a scale and a token that are trained, a number that float32 has not, and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6)
        self.again = nn.Conv2d(6, 6, 3, padding=1)
        self.gamma = nn.Parameter(torch.linspace(0.2, 0.8, 6))
        self.token = nn.Parameter(torch.randn(1, 6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x))
        x = x + self.gamma[:, None, None] * self.again(torch.tanh(self.again(x) * 0.3 + 0.1))
        return self.head(x.mean((2, 3)) * self.token)


def vit() -> nn.Module:
    sizes: dict[str, int] = {"num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 64, "num_classes": 4}
    return families.lively(torchvision.models.VisionTransformer(image_size=32, patch_size=8, **sizes))


def resnet() -> nn.Module:
    return families.lively(torchvision.models.resnet18(num_classes=4))


@pytest.fixture(scope="module")
def shared() -> nn.Module:
    torch.manual_seed(0)
    return Shared().eval()


def weights_line(certificate: Any) -> Any:
    (line,) = (line for line in certificate.lines if line.kind == "weights")
    return line


def test_the_gradients_of_a_ports_weights_are_the_originals(shared: nn.Module) -> None:
    images = IMAGES.astype(np.float32)
    there = xai.port(shared, "keras", images)
    back = xai.port(there.module, "torch", images)
    for ported in (there, back):
        assert ported.certificate.holds
        assert weights_line(ported.certificate).value < 1e-9
        exact = [line.value for line in ported.certificate.lines if (line.kind, line.dtype) == ("outputs", "float64")]
        assert max(exact) < 1e-13  # 0.3 is not what float32 makes of it
    assert len([layer for layer in there.module.layers if layer.name == "again"]) == 1
    assert sum(p.numel() for p in back.module.parameters()) == sum(p.numel() for p in shared.parameters())


def test_a_port_that_trains_otherwise_is_told(shared: nn.Module) -> None:
    """With two layers where the original has one, and with another gradient."""
    images = IMAGES.astype(np.float32)
    wrapped = xai.wrap(shared, modalities=(xai.Modality.image(),))
    apart = xai.wrap(twin(wrapped, (images,), "keras").module, modalities=(xai.Modality.image(),))
    line = weights_line(xai.certify(wrapped, apart, images))
    assert np.isnan(line.value)
    assert "weights there, the other one" in line.reason

    class Twice(Shared):
        """The same function, one of whose weights has twice the gradient."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.stem(x))
            gamma = 2 * self.gamma - self.gamma.detach()
            x = x + gamma[:, None, None] * self.again(torch.tanh(self.again(x) * 0.3 + 0.1))
            return self.head(x.mean((2, 3)) * self.token)

    other = Twice().eval()
    other.load_state_dict(shared.state_dict())
    certificate = xai.certify(shared, other, images)
    assert not certificate.holds
    assert not weights_line(certificate).holds
    assert certificate.trains_otherwise


class Norms(nn.Module):
    """Norms that scale alone, shift alone or do neither, and a kernel under weight norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 6, 4, stride=4))
        self.batch, self.group, self.norm = nn.BatchNorm2d(6), nn.GroupNorm(2, 6), nn.LayerNorm(6, bias=False)
        self.plain, self.rms = nn.BatchNorm2d(6, affine=False), nn.RMSNorm(6, 1e-5, elementwise_affine=False)
        self.batch.register_parameter("bias", None)
        self.group.register_parameter("weight", None)
        self.head = nn.Linear(6, 4)
        for norm in (self.batch, self.plain):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.batch.weight)
        nn.init.normal_(self.group.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.group(self.batch(self.stem(x)).relu()).relu()
        return self.head(self.rms(self.norm(self.plain(x).mean((2, 3)))))


def test_a_norm_gets_no_weight_that_it_has_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, images = Norms().eval(), IMAGES.astype(np.float32)
    there = xai.port(xai.wrap(network, modalities=(xai.Modality.image(),)), "keras", images)
    back = xai.port(there.module, "torch", images, out=tmp_path)
    for ported in (there, back):
        assert ported.certificate.holds
        line, *told = (line for line in ported.certificate.lines if line.kind == "weights")
        assert line.value < 1e-9
        assert {"stem", "batch", "group", "head"} <= {pair.one for pair in ported.certificate.weights}
        assert [more.name for more in told] == (["weights of stem"] if ported is there else [])
        assert all("weight or spectral norm" in more.reason for more in told)
    own = {name for name, _ in back.module.named_parameters()}
    assert own == {name for name, _ in network.named_parameters() if "parametri" not in name} | {"stem.weight"}
    text = (tmp_path / "network.py").read_text(encoding="utf-8")
    assert "self.batch = without(nn.BatchNorm2d(6), 'bias')" in text
    assert "self.plain = nn.BatchNorm2d(6, affine=False)" in text
    assert "import crossxai" not in text


def in_torch(network: nn.Module) -> list[float]:
    network, losses = copy.deepcopy(network).train(), []
    optimiser = torch.optim.SGD(network.parameters(), RATE)
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    for _ in range(3):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(images), torch.from_numpy(LABELS))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def in_keras(model: Any) -> list[float]:
    optimiser, losses = keras.optimizers.SGD(RATE), []
    for _ in range(3):
        with tf.GradientTape() as tape:
            given = tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, model(IMAGES, training=True))
            loss = tf.reduce_mean(given)
        optimiser.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        losses.append(float(loss))
    return losses


@pytest.mark.parametrize("make", [Shared, *(pytest.param(make, marks=pytest.mark.deep) for make in (vit, resnet))])
def test_three_steps_have_the_same_losses_in_both_frameworks(make: Any, tmp_path: Path) -> None:
    """The original, model.keras and, made from that one, network.py, in float64."""
    torch.manual_seed(0)
    net = make().double().eval()
    there = xai.port(net, "keras", IMAGES, out=tmp_path)
    xai.port(there.module, "torch", IMAGES, out=tmp_path)
    space: dict[str, Any] = {"__name__": "network"}
    exec((tmp_path / "network.py").read_text(encoding="utf-8"), space)
    alone = space["Network"]().double()
    alone.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    losses = in_torch(net)
    assert max(losses) - min(losses) > 1e-3
    np.testing.assert_allclose(in_torch(alone), losses, rtol=0, atol=1e-9)
    np.testing.assert_allclose(in_keras(keras.saving.load_model(tmp_path / "model.keras")), losses, rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*is deprecated in favor of:FutureWarning")
@pytest.mark.parametrize(
    "norm", [nn.utils.weight_norm, nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm]
)
def test_the_float64_copy_of_made_weights_computes_with_the_models_own(norm: Any) -> None:
    """Made anew in float64 they would be others than those of float32, and a port would differ from them."""
    torch.manual_seed(0)
    network = nn.Sequential(norm(nn.Conv2d(3, 6, 3)), nn.Flatten(), nn.Linear(6 * 900, 4))
    network(torch.rand(2, 3, 32, 32))  # a pass in training mode, which spectral norm needs
    model = xai.wrap(network.eval(), modalities=(xai.Modality.image(),))
    before = model.predict((IMAGES.astype(np.float32),))
    made = network[0].weight.detach().clone()
    exact = model.exact()
    torch.testing.assert_close(exact.module[0].weight, made.double(), rtol=0, atol=0)
    np.testing.assert_allclose(exact.predict((IMAGES,)), before, atol=1e-5)
    np.testing.assert_array_equal(model.predict((IMAGES.astype(np.float32),)), before)
