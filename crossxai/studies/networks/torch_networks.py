"""The networks in PyTorch: torchvision's ResNet-18, and fusion networks for image + table → class, image + image → score or mask.

Images come NCHW; those of the fusion networks have one channel, and height and width divisible by 16. Every ReLU of a fusion
network is a module of its own. docs/medical.md names the last convolutional activation of each encoder, where Grad-CAM looks.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision import models

from crossxai.errors import InvalidFile, UnknownName
from crossxai.studies.networks import ENCODERS, weight_files


def resnet18(n_classes: int = 2, seed: int | None = None) -> nn.Module:
    """torchvision's ResNet-18 without pretrained weights, in train mode; a seed leaves torch's global generator as it was."""
    with _seeded(seed):
        model: nn.Module = models.resnet18(weights=None, num_classes=n_classes)
        return model


def load(path: str | os.PathLike[str], checkpoint: weight_files.Checkpoint, dtype: str = "float32") -> nn.Module:
    """The network of a checkpoint, for standardised images, in eval mode; raises `InvalidFile` if the weights do not fit it."""
    architecture, n_classes = weight_files.known(path, checkpoint, ARCHITECTURES), checkpoint.n_classes
    if architecture == "resnet18":
        module, network = resnet18(n_classes, seed=0), f"ResNet-18 with {n_classes} classes"
    else:
        module, network = fusion_network(architecture, seed=0), architecture
    try:
        module.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in checkpoint.weights.items()})
    except RuntimeError as error:
        raise InvalidFile(f"{path}: its weights do not fit {network}: {error}") from error
    return module.eval().to(getattr(torch, dtype))


def fusion_network(architecture: str, seed: int | None = None) -> nn.Module:
    """An untrained network by the name that checkpoints call it, in train mode; a seed leaves torch's global generator alone."""
    if architecture not in ARCHITECTURES:
        raise UnknownName("fusion network", architecture, ARCHITECTURES)
    with _seeded(seed):
        return ARCHITECTURES[architecture]()


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """torch's generator seeded, and as it was afterwards; None: left alone."""
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield


class FusionClassifier(nn.Module):
    """CT (n, 1, h, w) and table (n, 12) → logits (n, 2). resnet18_encoder: of the CT, instead of two convolutions."""

    def __init__(self, resnet18_encoder: bool = False) -> None:
        super().__init__()
        self.ct = _grey_resnet18() if resnet18_encoder else _encoder("ct")
        self.embedding = nn.ReLU()
        self.table = _chain(fc1=nn.Linear(12, 32), relu1=nn.ReLU(), fc2=nn.Linear(32, 32), relu2=nn.ReLU())
        self.fusion = _chain(fc1=nn.Linear(96, 64), relu1=nn.ReLU(), fc2=nn.Linear(64, 2))

    def forward(self, ct: Tensor, table: Tensor) -> Tensor:
        logits: Tensor = self.fusion(torch.cat([self.embedding(self.ct(ct)), self.table(table)], 1))
        return logits


class FusionRegressor(nn.Module):
    """T1 and T2, each (n, 1, h, w) → score (n, 1); two streams with batch norm, 22,337 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.t1 = _encoder("stream")
        self.t2 = _encoder("stream")
        self.fusion = _chain(fc1=nn.Linear(128, 64), relu1=nn.ReLU(), fc2=nn.Linear(64, 1))

    def forward(self, t1: Tensor, t2: Tensor) -> Tensor:
        score: Tensor = self.fusion(torch.cat([self.t1(t1), self.t2(t2)], 1))
        return score


class FusionUNet(nn.Module):
    """FLAIR and T1ce, each (n, 1, h, w) → logits of the mask (n, 1, h, w), with one skip, from FLAIR at half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.flair = _encoder("unet")
        self.t1ce = _encoder("unet")
        self.bottleneck = _chain(conv=_conv(64, 32), relu=nn.ReLU())
        self.up1 = _chain(conv=nn.ConvTranspose2d(32, 16, 2, 2), relu=nn.ReLU())
        self.up2 = _chain(conv=nn.ConvTranspose2d(16, 16, 2, 2), relu=nn.ReLU())
        self.decoder = _chain(conv=_conv(32, 8), relu=nn.ReLU())
        self.head = nn.ConvTranspose2d(8, 1, 2, 2)

    def forward(self, flair: Tensor, t1ce: Tensor) -> Tensor:
        skip = flair
        for name, layer in self.flair.named_children():
            flair = layer(flair)
            skip = flair if name == "relu2" else skip
        fused = self.bottleneck(torch.cat([flair, self.t1ce(t1ce)], 1))
        decoded = self.decoder(torch.cat([self.up2(self.up1(fused)), skip], 1))
        logits: Tensor = self.head(decoded)
        return logits


def _conv(channels: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, padding=1)


def _chain(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _encoder(name: str) -> nn.Sequential:
    """An encoder of `ENCODERS`, of an image with one channel."""
    layers: dict[str, nn.Module] = {}
    channels = 1
    for layer, width in ENCODERS[name]:
        match layer.rstrip("123"):
            case "conv":
                layers[layer], channels = _conv(channels, width), width
            case "bn":
                layers[layer] = nn.BatchNorm2d(channels)
            case "relu":
                layers[layer] = nn.ReLU()
            case "pool":
                layers[layer] = nn.AdaptiveAvgPool2d(width) if width else nn.MaxPool2d(2)
                channels *= width**2 or 1
            case "flatten":
                layers[layer] = nn.Flatten()
            case "fc":
                layers[layer] = nn.Linear(channels, width)
    return _chain(**layers)


def _grey_resnet18() -> nn.Module:
    encoder = resnet18(64)
    encoder.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)  # one channel that meant all three: their kernels, summed
    nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
    return encoder


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "fusion_classifier": FusionClassifier,
    "fusion_classifier_resnet18": lambda: FusionClassifier(resnet18_encoder=True),
    "fusion_regressor": FusionRegressor,
    "fusion_unet": FusionUNet,
}
