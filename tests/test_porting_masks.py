"""Attention with a mask that no input changes: ordinary layers where a framework has them, and files that hold the mask."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from torch import nn

import crossxai as xai

TOKENS = xai.Modality("words", ("token", "feature"), ("a", "b", "c", "d"))
VALUES = np.random.default_rng(0).normal(size=(3, 6, 4)).astype(np.float32)


class Reader(nn.Module):
    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(1, 2)
        return self.head(self.attention(x, x, x, attn_mask=self.mask, need_weights=False)[0][:, -2])


MASKS = {
    "what came before": torch.ones(6, 6, dtype=torch.bool).triu(1),
    "less for what is farther": -0.3 * (torch.arange(6.0)[:, None] - torch.arange(6.0)).abs(),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_there_and_back(name: str, tmp_path: Path) -> None:
    network = Reader(MASKS[name]).eval()
    there = xai.port(xai.wrap(network, modalities=(TOKENS,)), "keras", VALUES)
    assert there.certificate.holds
    ordinary = type(there.module.get_layer("attention")) is keras.layers.MultiHeadAttention
    assert ordinary == (name == "what came before")
    there.save(tmp_path / "keras")
    assert (tmp_path / "keras" / "layers.py").is_file()
    again = keras.saving.load_model(tmp_path / "keras" / "model.keras")
    np.testing.assert_array_equal(np.asarray(again(VALUES)), np.asarray(there.module(VALUES)))
    back = xai.port(there.model, "torch", VALUES, out=tmp_path / "torch")  # runs the Python file and compares
    assert back.certificate.holds
    given = torch.from_numpy(VALUES).transpose(1, 2)
    torch.testing.assert_close(back.module(given), network(given), atol=1e-5, rtol=1e-5)
    changed = network(given + torch.nn.functional.pad(torch.ones(3, 4, 1), (5, 0)))  # of the last token
    looks = name != "what came before"
    assert bool((changed - network(given)).abs().max() > 1e-4) == looks
