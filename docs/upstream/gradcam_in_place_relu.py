"""pytorch-grad-cam: an in-place ReLU behind the target layer changes the activation that was recorded.

`ActivationsAndGradients.save_activation` keeps `output.cpu().detach()`, which shares its memory with the network's
tensor where the network is on the CPU. torchvision's networks have `nn.ReLU(inplace=True)`: the recorded activation
is then the one after the ReLU, and the map is wrong without a word.

Expected: `output.detach().clone()`.
"""

import sys

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn


def cam(inplace: bool) -> np.ndarray:
    """Grad-CAM at the convolution of one and the same network, its ReLU in place or not."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    ).eval()
    return GradCAM(net, [net[0]])(torch.rand(1, 3, 16, 16), [ClassifierOutputTarget(0)])


difference = float(np.abs(cam(True) - cam(False)).max())
print(f"The same network with and without an in-place ReLU: maps in [0, 1] that differ by up to {difference:.2f}")
sys.exit(difference < 1e-6)
