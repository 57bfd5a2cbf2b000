"""Explainers answer whatever gradient mode torch is in, and leave it as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import zoo

from crossxai.explainers import get

NAMES = ("captum.saliency", "captum.deep_lift", "captum.occlusion", "gradcam.gradcam", "gradcam.shapleycam")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_modes(name: str, mode: Any) -> None:
    question = zoo.question("torch")
    explainer = get(name, **({"patch": 8, "stride": 8} if name == "captum.occlusion" else {}))
    expected = explainer(question).values[0]
    with mode():
        found = explainer(question).values[0]
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (False, mode is torch.inference_mode)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
