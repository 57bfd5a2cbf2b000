"""Explainers in several threads at once: the same numbers, and no library left changed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cheap import CHEAP
from networks import zoo

from crossxai.explainers import get
from crossxai.model import Array

CASES = [
    *((name, profile) for name in ("gradcam.gradcam", "gradcam.eigencam") for profile in ("native", "canonical")),
    *((name, "native") for name in ("lime.image", "captum.gradient_shap", "captum.smooth_grad", "gradcam.randomcam")),
]
MODULES = ("pytorch_grad_cam.base_cam", "pytorch_grad_cam.grad_cam", "pytorch_grad_cam.eigen_cam", "lime.lime_image")


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns every few microseconds."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty")
def test_explainers_in_several_threads() -> None:
    asked = [(case, zoo.question("torch")) for case in CASES * 6]

    def answer(number: int) -> Array:
        (name, profile), question = asked[number]
        options: dict[str, Any] = CHEAP.get(name, {})
        return get(name, **{**options, "profile": profile})(question).values[0]

    expected = [answer(number) for number in range(len(CASES))] * 6
    modules = [importlib.import_module(name) for name in MODULES]
    before = [dict(vars(module)) for module in modules]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(answer, range(len(asked))))
    for module, members in zip(modules, before, strict=True):
        assert {n for n in members | vars(module) if members.get(n) is not vars(module).get(n)} == set(), module
    for (case, _), here, alone in zip(asked, found, expected, strict=True):
        np.testing.assert_allclose(here, alone, atol=1e-5, err_msg=str(case))
