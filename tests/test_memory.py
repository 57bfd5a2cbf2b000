"""Peak memory of integrated gradients stays within the stated bound as steps and samples grow; each in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMAGE = 224 * 224 * 3 * 4 / 2**20  # MiB of one float32 copy: 0.57; 16 images × 500 steps would be 4.6 GiB

CODE = """
import resource, sys
import numpy as np
import crossxai, torch
from torch import nn
from crossxai import Modality, Question, Target
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import get

net = nn.Sequential(nn.Conv2d(3, 2, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
images = np.random.default_rng(0).random((16, 224, 224, 3), np.float32)
question = Question(TorchModel(net, (Modality.image(),)), (images,), Target.outputs(0, 16, 2), batch_size=8)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB

name, few, many = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
get(name, steps=few)(question)
before = peak()
get(name, steps=many)(question)
print("GREW", peak() - before)
"""


@pytest.mark.parametrize(
    ("name", "few", "copies"),
    [
        ("captum.integrated_gradients", 50, 4 * 8),  # at most 4 · batch_size copies, whatever the steps
        ("xplique.integrated_gradients", 50, 500),  # at most max(steps, 4 · batch_size): one image's path at a time
    ],
)
def test_integrated_gradients(name: str, few: int, copies: int) -> None:
    """500 steps on 16 images: the library's handful of arrays per copy, never 8000 images."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, name, str(few), "500"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    grew = float(done.stdout.split("GREW")[1])
    assert grew <= 10 * copies * IMAGE, f"{grew:.0f} MiB more than with {few} steps"
