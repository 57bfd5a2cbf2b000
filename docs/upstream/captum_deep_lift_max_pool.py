"""Captum: DeepLIFT does not add up where a max-pool follows an activation directly, or where its windows overlap.

The sum of DeepLIFT's contributions is the difference of the outputs (Shrikumar et al. 2017, summation to delta).
Behind Conv - ReLU - MaxPool it is not: the pool keeps the plain gradient. With overlapping windows (3 × 3, stride 2),
`max_unpool` keeps one of the windows that share an input and loses the others.

Expected: a convergence delta of 0 up to rounding, as with average pools.
"""

import sys

import torch
from captum.attr import DeepLift
from torch import nn


def delta(*layers: nn.Module) -> float:
    """The largest convergence delta of a small network, as a share of its outputs."""
    torch.manual_seed(0)
    net = nn.Sequential(*layers, nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).double().eval()
    inputs, baseline = torch.rand(4, 1, 10, 10).double(), torch.rand(4, 1, 10, 10).double()
    net(inputs)
    _, gap = DeepLift(net).attribute(inputs, baseline, target=0, return_convergence_delta=True)
    return float(gap.detach().abs().max() / net(inputs).detach().abs().max())


torch.manual_seed(0)
kinds = {
    "average pool": (nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
    "max-pool behind an activation": (nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    "max-pool with overlapping windows": (
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(3, 3, 1),
        nn.MaxPool2d(3, 2, 1),
    ),
}
deltas = {name: delta(*layers) for name, layers in kinds.items()}
for name, gap in deltas.items():
    print(f"{name}: convergence delta {gap:.1e} of the outputs")
sys.exit(max(list(deltas.values())[1:]) < 1e-6)
