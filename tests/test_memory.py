"""Peak memory of integrated gradients stays within the stated bound as steps and samples grow; each in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

IMAGE = 224 * 224 * 3 * 4 / 2**20  # MiB of one float32 copy: 0.57; 16 images × 500 steps would be 4.6 GiB

CODE = """
import sys
import numpy as np
import crossxai, torch
from torch import nn
from crossxai import Modality, Question, Target
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import get

net = nn.Sequential(nn.Conv2d(3, 2, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
model = TorchModel(net, (Modality.image(),))
name, few, many, samples, more = sys.argv[1], *map(int, sys.argv[2:])


def question(n):
    images = np.random.default_rng(0).random((n, 224, 224, 3), np.float32)
    return Question(model, (images,), Target.outputs(0, n, 2), batch_size=8)


def peak():  # not ru_maxrss, which begins with the peak of the process that started this one
    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) / 1024  # MiB

get(name, steps=few)(question(samples))
before = peak()
get(name, steps=many)(question(more))
print("GREW", peak() - before)
"""


def grew(name: str, *numbers: int) -> float:
    """MiB by which the peak grew from (steps, samples) to (steps, samples), given as few, many, samples, more."""
    words = [sys.executable, "-c", CODE, name, *map(str, numbers)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split("GREW")[1])


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("captum.integrated_gradients", 4 * 8),  # at most 4 · batch_size copies, whatever the steps
        ("xplique.integrated_gradients", 500),  # at most max(steps, 4 · batch_size): one image's path at a time
    ],
)
def test_500_steps_on_16_images(name: str, copies: int) -> None:
    """The library's handful of arrays per copy, never 8000 images."""
    assert grew(name, 50, 500, 16, 16) <= 10 * copies * IMAGE


@pytest.mark.parametrize("name", ["captum.integrated_gradients", "xplique.integrated_gradients"])
def test_more_samples(name: str) -> None:
    """Inputs and maps grow with the samples (a few arrays of each), perturbed copies do not: 1280 would be 735 MiB of pixels."""
    assert grew(name, 20, 20, 16, 64) <= 6 * (64 - 16) * IMAGE + 10 * 4 * 8 * IMAGE
