"""Captum's NoiseTunnel on any model: SmoothGrad and its kin, the noise drawn per sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crossxai.explainers.captum import attribute, captum, forward, room, seed_of, signed
from crossxai.explainers.families import noise
from crossxai.explainers.method import Maps, Method, Passes, explainer, profiles
from crossxai.explainers.native import seeded
from crossxai.question import Question

BASES = {"saliency": "Saliency", "input_x_gradient": "InputXGradient", "integrated_gradients": "IntegratedGradients"}


@dataclass(frozen=True, kw_only=True)
class _Tunnel(Method, needs="gradients", family="smoothing", joint=True, copied_by="samples", choices={"over": BASES}):
    """What Captum's statistics under noise share.

    Parameters
    ----------
    over : str, default 'saliency'
        The method that is smoothed: "saliency", "input_x_gradient" or "integrated_gradients".
    sd : float, default 1.0
        Standard deviation of the noise: absolute, in raw input units (native), or a share of each modality's declared range
        (canonical; absolute where none is declared).
    steps : int, default 50
        Points on the path of "integrated_gradients".
    baseline : float, default 0.0
        Start of the path of "integrated_gradients", in raw input units.

    Notes
    -----
    Natively torch draws the noise, seeded for each sample; canonically `crossxai.explainers.families` does.
    """

    least: ClassVar = {"samples": 1, "sd": 0, "steps": 2}
    kind: ClassVar[str]

    over: str = "saliency"
    samples: int = 5
    sd: float = 1.0
    steps: int = 50
    baseline: float = 0.0
    seed: int = 0

    def passes(self, question: Question) -> Passes:
        each = self.samples * (self.steps if self.over == "integrated_gradients" else 1)
        return each, each

    def explain(self, question: Question) -> Maps:
        library = captum(self.name)
        batch = min(self.samples, room(question, len(question)))
        options: dict[str, Any] = {}
        if self.over == "saliency":
            options["abs"] = self.profile == "native"
        elif self.over == "integrated_gradients":
            most = max(4 * question.batch_size, batch * len(question))
            options |= {"n_steps": self.steps, "internal_batch_size": most}
            options["baselines"] = tuple(self.baseline for _ in question.values)
        tunnel = _given(library, self._noise(question))(getattr(library, BASES[self.over])(forward(question)))
        maps = attribute(
            tunnel, question, nt_type=self.kind, nt_samples=self.samples, nt_samples_batch_size=batch, **options
        )
        return signed(self, question, maps), {}

    def _noise(self, question: Question) -> list[Any]:
        """What is added to the copies of each sample: (n, samples, *shape) per free modality."""
        import torch

        if self.profile == "canonical":
            ranges = [m.range or (0.0, 1.0) for m in question.modalities]
            draws = [noise(question, row, self.samples, self.seed) for row in range(len(question))]
            return [
                torch.from_numpy(np.stack(column) * v.dtype.type(self.sd * (high - low)))
                for column, v, (low, high) in zip(zip(*draws, strict=True), question.values, ranges, strict=True)
            ]
        drawn: list[tuple[Any, ...]] = []
        for row in range(len(question)):
            with seeded(seed_of(question, row, self.seed)):  # what NoiseTunnel draws for that sample alone
                shapes = [(self.samples, *v.shape[1:]) for v in question.values]
                drawn.append(tuple(torch.normal(0, torch.tensor(float(self.sd)).repeat(shape)) for shape in shapes))
        return [torch.stack(column) for column in zip(*drawn, strict=True)]


def _given(library: Any, draws: list[Any]) -> Any:
    """The library's NoiseTunnel, with the noise given instead of drawn."""

    class Given(library.NoiseTunnel):  # type: ignore[misc]
        done = 0

        def _add_noise_to_inputs(self, samples: int, inputs: Any, stdevs: Any) -> Any:
            some = slice(self.done, self.done + samples)
            self.done += samples
            return tuple(
                (x.repeat_interleave(samples, dim=0) + draw[:, some].flatten(0, 1).to(x.device)).requires_grad_()
                for x, draw in zip(inputs, draws, strict=True)
            )

    return Given


@explainer("captum.smooth_grad", "mean of gradients under noise", "Smilkov et al. 2017")
@profiles(
    native="mean of absolute gradients, absolute noise, per channel",
    canonical="mean of signed gradients, noise as a share of the range, summed over channels",
)
class SmoothGrad(_Tunnel, kind="smoothgrad"):
    """Mean of gradients of noisy copies of the input (Smilkov et al. 2017)."""


@explainer("captum.smooth_grad_sq", "mean of squared gradients under noise", "Hooker et al. 2019")
@profiles(
    native="mean of squared gradients, absolute noise, per channel",
    canonical="mean of squared gradients, noise as a share of the range, summed over channels",
)
class SmoothGradSq(_Tunnel, kind="smoothgrad_sq"):
    """Mean of squared gradients of noisy copies of the input (Hooker et al. 2019)."""


@explainer("captum.var_grad", "variance of gradients under noise", "Adebayo et al. 2018")
@profiles(
    native="variance of absolute gradients divided by n, absolute noise, per channel",
    canonical="variance of signed gradients divided by n, noise as a share of the range, summed over channels",
)
class VarGrad(_Tunnel, kind="vargrad"):
    """Variance of gradients of noisy copies of the input (Adebayo et al. 2018), divided by n, not by n - 1.

    Captum subtracts the squared mean from the mean square: in float32 a variance near 0 can come out just below it.
    """
