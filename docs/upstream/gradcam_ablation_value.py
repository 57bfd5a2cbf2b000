"""pytorch-grad-cam: the value that Ablation-CAM sets a channel to falls from channel to channel of a batch.

`AblationLayer.__call__` sets channel i to `torch.min(output) - ABLATION_VALUE`, where `output` already holds the
channels that were ablated before: -1e7, -2e7, -3e7, … So a channel's weight depends on its place in the batch. Desai
& Ramaswamy (2020) set it to 0.

Expected: one value for every channel.
"""

import sys

import torch
from pytorch_grad_cam import AblationLayer

layer = AblationLayer()
activations = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
layer.activations_to_be_ablated(activations[0].numpy())
layer.set_next_batch(0, activations, 4)
values = [float(copy[channel, 0, 0]) for channel, copy in enumerate(layer(None))]
print("Channels 0 to 3 are set to", ", ".join(f"{value:.3g}" for value in values))
sys.exit(max(values) - min(values) < 1)
