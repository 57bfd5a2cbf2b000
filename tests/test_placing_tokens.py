"""Tokens of an image that was moved before it was cut into patches are no grid to paint."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from test_placing import IMAGE, Moved, photograph

from crossxai import Question, Target, Unsupported
from crossxai.adapters.torch import TorchModel
from crossxai.attention import Streams, Tokens
from crossxai.explainers import get

MOVES: dict[str, Callable[[Any], Any]] = {
    "mirrored in x": lambda x: x.flip(3),
    "mirrored in y": lambda x: x.flip(2),
    "transposed": lambda x: x.transpose(2, 3),
    "turned": lambda x: torch.rot90(x, 1, (2, 3)),
    "rolled in y": lambda x: x.roll(x.shape[2] // 4, 2),
    "rolled in x": lambda x: x.roll(x.shape[3] // 2, 3),
    "cropped": lambda x: torch.nn.functional.interpolate(x[:, :, 16:48, 16:48], scale_factor=2),
}


class ClassLast(torch.nn.Module):
    """A transformer's first steps with the class token after the patches."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.patch, self.stream, self.head = torch.nn.Conv2d(3, 8, 8, 8), torch.nn.Identity(), torch.nn.Linear(8, 2)
        self.extra, self.first = torch.nn.Parameter(torch.randn(1, 1, 8)), first

    def forward(self, x: Any) -> Any:
        t = self.patch(x).flatten(2).transpose(1, 2)
        extra = self.extra.expand(len(t), -1, -1)
        return self.head(self.stream(torch.cat([extra, t] if self.first else [t, extra], 1)).mean(1))


def vit(move: Callable[[Any], Any], **options: Any) -> Question:
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, patch_size=8, depth=3, num_classes=2)
    for name, parameter in net.named_parameters():
        if name.endswith("weight") and parameter.ndim == 2:
            parameter.data *= 3
    model = TorchModel(Moved(move, net).eval(), IMAGE, **options)
    return Question(model, (photograph(64),), Target.classes([1], 2))


def test_tokens_as_they_are_are_drawn() -> None:
    asked = vit(lambda x: x)
    assert "8 × 8" in get("gradcam.gradcam", layer="net.blocks.2.norm1")(asked).notes[-1]
    assert any("8 × 8 after 1 without a place" in note for note in get("attention.rollout")(asked).notes)


@pytest.mark.parametrize("how", MOVES)
def test_tokens_of_a_moved_image_are_refused(how: str) -> None:
    asked = vit(MOVES[how])
    with pytest.raises(Unsupported, match="neither told by the layer nor measurable"):
        get("gradcam.gradcam", layer="net.blocks.1.norm1")(asked)
    with pytest.raises(Unsupported, match="declares no token streams"):
        get("attention.rollout")(asked)


def test_streams_count_more_than_what_is_measured() -> None:
    streams = Streams({"image": Tokens((8, 8), 1)}, readout=("image", 0))
    asked = vit(MOVES["mirrored in x"], streams=streams)
    assert any("declared" in note for note in get("attention.rollout")(asked).notes)


def test_a_class_token_at_the_end_is_not_taken_for_one_at_the_start() -> None:
    """Read one token further, every row of the grid would end with the next one's first place."""
    torch.manual_seed(0)
    for first, side in itertools.product((True, False), (8, 10, 14)):
        model = TorchModel(ClassLast(first).eval(), IMAGE)
        asked = Question(model, (photograph(8 * side),), Target.classes([1], 2))
        if first:
            assert asked.layers.layout("stream").tokens == Tokens((side, side), 1)
        else:
            with pytest.raises(Unsupported, match="neither told by the layer nor measurable"):
                asked.layers.layout("stream")
