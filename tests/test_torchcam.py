"""The preset `torchcam` against torchcam's own `DeletionInsertionMetric`: same network, same maps, same areas."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchcam.methods import GradCAM
from torchcam.metrics import DeletionInsertionMetric
from torchvision.models import resnet18

from crossxai import Attribution, Modality, Question, Target
from crossxai.adapters.torch import TorchModel
from crossxai.evaluation.curves import evaluate, presets
from crossxai.evaluation.curves.steps import Ceil
from crossxai.explainers import get

N, SIDE, CLASSES = 3, 48, 5
LABELS = [4, 0, 2]
PROBABILITY = partial(torch.softmax, dim=-1)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    net = resnet18(num_classes=CLASSES)
    with torch.no_grad():
        net(torch.rand(32, 3, SIDE, SIDE))  # running statistics of its batch norms
    return net.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def ask(network: nn.Module, images: torch.Tensor, link: Any) -> Question:
    model = TorchModel(network, (Modality.image(),), outputs="logits")
    return Question(model, (images.permute(0, 2, 3, 1).numpy(),), Target.classes(np.array(LABELS), CLASSES, link))


def their_maps(network: nn.Module, images: torch.Tensor, logits_fn: Any) -> np.ndarray:
    """(n, y, x, 1), enlarged as its metric enlarges them."""
    large = []
    with GradCAM(network, "layer4") as extractor:
        for image, label in zip(
            images[:, None], LABELS, strict=True
        ):  # of a batch they round otherwise, and rank otherwise
            outputs = network(image)
            (maps,) = extractor(label, outputs if logits_fn is None else logits_fn(outputs))
            large.append(nn.functional.interpolate(maps[:, None], (SIDE, SIDE), mode="bilinear", align_corners=False))
    return torch.cat(large).detach().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(("link", "logits_fn"), [("identity", None), ("softmax", PROBABILITY)])
@pytest.mark.parametrize("steps", [20, 7])
def test_areas(network: nn.Module, images: torch.Tensor, link: str, logits_fn: Any, steps: int) -> None:
    question = ask(network, images, link)
    maps = Attribution((their_maps(network, images, logits_fn),), question.modalities, question.ids, "torchcam.gradcam")
    metrics = [replace(metric, steps=Ceil(steps)) for metric in presets.get("torchcam")]
    scores = evaluate(question, [maps], metrics)[0]
    with GradCAM(network, "layer4") as extractor:
        for row in range(N):
            theirs = DeletionInsertionMetric(extractor, logits_fn, steps=steps)
            theirs.update(images[row : row + 1], LABELS[row])
            assert scores[0].value[row] == pytest.approx(theirs.summary()["deletion_auc"], rel=1e-5, abs=1e-6)
            assert scores[1].value[row] == pytest.approx(theirs.summary()["insertion_auc"], rel=1e-5, abs=1e-6)


def test_its_map_explains_what_its_metric_measures(network: nn.Module, images: torch.Tensor) -> None:
    """A softmax as `logits_fn` is what its activation map explains, too; elsewhere, maps of logits are measured so."""
    theirs = their_maps(network, images, PROBABILITY)
    apart = {}
    for link in ("identity", "softmax"):
        ours = get("reference.gradcam", layer="layer4")(ask(network, images, link)).values[0]
        least, most = ours.min(axis=(1, 2, 3), keepdims=True), ours.max(axis=(1, 2, 3), keepdims=True)
        apart[link] = np.abs((ours - least) / np.maximum(most - least, 1e-12) - theirs).max(
            axis=(1, 2, 3)
        )  # theirs lie in 0 to 1
    assert apart["softmax"].max() < 1e-4
    assert apart["identity"].max() > 0.05
