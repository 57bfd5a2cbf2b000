"""A port takes images of other sizes where the network does, and refuses them where it cannot be the same function there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from networks import families
from torch import nn

import crossxai as xai

IMAGES = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
OTHER = np.random.default_rng(1).random((2, 96, 64, 3), np.float32)


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return families.lively(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.SiLU(),
            nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
            nn.MaxPool2d(3, 2, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 4),
        )
    )


def of_one_size() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4)).eval()


def sizes(certificate: Any) -> list[Any]:
    return [line for line in certificate.lines if line.name.startswith("larger")]


def test_sizes_stay_open_both_ways(tmp_path: Path) -> None:
    net = convolutional()
    there = xai.port(net, "keras", IMAGES, out=tmp_path)
    back = xai.port(there.module, "torch", IMAGES, out=tmp_path)
    given = torch.from_numpy(OTHER).permute(0, 3, 1, 2)
    with torch.no_grad():
        outputs = net(given).numpy()
        np.testing.assert_allclose(back.module(given).numpy(), outputs, atol=1e-5)
        space: dict[str, Any] = {"__name__": "network"}
        exec((tmp_path / "network.py").read_text(encoding="utf-8"), space)
        alone = space["Network"]().eval()
        alone.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        np.testing.assert_allclose(alone(given).numpy(), outputs, atol=1e-5)
    np.testing.assert_allclose(np.asarray(keras.saving.load_model(tmp_path / "model.keras")(OTHER)), outputs, atol=1e-5)
    for ported in (there, back):
        assert [line.dtype for line in sizes(ported.certificate)] == ["float64", "float32"]
        assert ported.certificate.holds


def test_a_network_of_one_size_refuses_others(tmp_path: Path) -> None:
    there = xai.port(of_one_size(), "keras", IMAGES)
    back = xai.port(there.module, "torch", IMAGES, out=tmp_path)
    assert sizes(there.certificate) == []  # neither takes them
    with pytest.raises(ValueError, match="takes"):
        back.module(torch.from_numpy(OTHER).permute(0, 3, 1, 2))
    assert 'raise ValueError(f"this network takes (32, 32), got' in (tmp_path / "network.py").read_text(
        encoding="utf-8"
    )


def test_sizes_at_which_a_network_pads_otherwise_are_not_taken() -> None:
    """Padding "same" at stride 3 depends on the size's remainder, which 32 more pixels change."""
    x = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(4, 3, 2, "same")(x)
    y = keras.layers.Conv2D(4, 4, 3, "same", activation="relu")(y)
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(y)))
    there = xai.port(xai.wrap(model, name="given", modalities=(xai.Modality.image(),)), "torch", IMAGES)
    assert [line.reason for line in sizes(there.certificate)] == ["given-torch takes images of one size only"]
    assert there.certificate.holds


def test_a_port_that_is_wrong_at_other_sizes_alone_fails() -> None:
    net = convolutional()

    class Cropping(nn.Module):
        """Looks at the first pixels only."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x[:, :, :32, :32])

    certificate = xai.certify(net, Cropping().eval(), IMAGES)
    assert not certificate.holds
    assert {line.name for line in certificate.lines if not line.holds} == {"larger by 32 pixels"}


def test_a_program_of_torch_export_is_written_too(tmp_path: Path) -> None:
    there = xai.port(convolutional(), "keras", IMAGES)
    xai.port(there.module, "torch", IMAGES, out=tmp_path)
    program = torch.export.load(tmp_path / "network.pt2")
    given = torch.from_numpy(IMAGES[:1]).permute(0, 3, 1, 2)
    with torch.no_grad():
        np.testing.assert_allclose(program.module()(given).numpy(), convolutional()(given).numpy(), atol=1e-5)
    again = xai.wrap(str(tmp_path / "network.pt2"), trust=True)
    np.testing.assert_allclose(
        again.predict((IMAGES,)), convolutional()(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)).detach(), atol=1e-5
    )
