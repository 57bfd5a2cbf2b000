"""The learner in PyTorch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from crossxai.model import Array
from crossxai.studies.networks import torch_networks
from crossxai.studies.networks.weight_files import Weights
from crossxai.studies.pcam.dataset import Labels, Pixels
from crossxai.studies.training.patch_loop import BETAS, EPSILON, Rules, State, part_of


class TorchLearner:
    """torchvision's ResNet-18 with `torch.optim.AdamW`."""

    def __init__(self, weights: Weights, rules: Rules) -> None:
        self.rules = rules
        self.module = torch_networks.resnet18(seed=0).to(memory_format=torch.channels_last)
        if rules.dtype == "float64":
            self.module.double()
        self._load(weights)
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(not rules.frozen or name.startswith("fc."))
        self.learning = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(
            list(self.learning.values()), betas=BETAS, eps=EPSILON, weight_decay=rules.weight_decay
        )

    def step(self, pixels: Pixels, labels: Labels, learning_rate: float) -> float:
        self.module.train(not self.rules.frozen)
        with torch.inference_mode(False), torch.enable_grad():
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate
            logits = self.module(_tensor(self.rules.seen(pixels)))
            loss = torch.nn.functional.cross_entropy(
                logits, torch.from_numpy(labels), label_smoothing=self.rules.label_smoothing
            )
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
        return loss.item()

    def predict(self, images: npt.NDArray[np.float32]) -> Array:
        self.module.eval()
        with torch.inference_mode():
            return np.asarray(self.module(_tensor(self.rules.standardised(images))).numpy())

    def weights(self) -> Weights:
        return {name: _array(values) for name, values in self.module.state_dict().items()}

    def state(self) -> State:
        arrays: State = {f"weights/{name}": values for name, values in self.weights().items()}
        for name, parameter in self.learning.items():
            for key, values in self.optimiser.state[parameter].items():
                arrays[f"{key}/{name}"] = _array(values)
        return arrays

    def restore(self, state: State) -> None:
        self._load(part_of(state, "weights"))
        self.optimiser.state.clear()
        for name, parameter in self.learning.items():
            if f"step/{name}" in state:  # none before the first step
                # The same layout in memory as before, so that the same instructions run over it.
                moments = {
                    key: torch.zeros_like(parameter, requires_grad=False).copy_(
                        torch.from_numpy(state[f"{key}/{name}"])
                    )
                    for key in ("exp_avg", "exp_avg_sq")
                }
                self.optimiser.state[parameter] = {"step": torch.tensor(float(state[f"step/{name}"])), **moments}

    def _load(self, weights: Weights) -> None:
        self.module.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in weights.items()})


def _tensor(images: Array) -> torch.Tensor:
    # The NCHW view of an NHWC array is torch's channels_last layout: nothing is copied.
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _array(values: torch.Tensor) -> npt.NDArray[np.generic]:
    return np.array(values.detach().numpy(), order="C")
