"""Two hundred calls in a row leave neither hooks nor memory behind."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from networks import zoo

from crossxai.explainers import get
from crossxai.testing.state import network_state

pytestmark = pytest.mark.process  # measures memory

HANDFUL: list[tuple[str, str, dict[str, Any]]] = [
    ("torch", "captum.integrated_gradients", {"steps": 3}),
    ("torch", "gradcam.gradcam", {}),
    ("torch", "reference.occlusion", {"patch": 8, "stride": 8}),
    ("torch", "gradcam.fullgrad", {}),
    ("keras", "captum.deep_lift", {}),
    ("keras", "captum.saliency", {}),
    ("keras", "gradcam.gradcam", {}),
    ("keras", "xplique.saliency", {}),
    ("torch", "xplique.occlusion", {"patch": 8, "stride": 8}),
]
CALLS, WARM = 200, 30


def resident() -> float:
    """MB of this process in memory, after what can be freed is."""
    gc.collect()
    words = Path("/proc/self/status").read_text(encoding="ascii").split()
    return int(words[words.index("VmRSS:") + 1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process as Linux says it")
@pytest.mark.parametrize(("framework", "name", "params"), HANDFUL)
def test_two_hundred_calls(framework: str, name: str, params: Any) -> None:
    explainer, question = get(name, **params), zoo.question(framework, n=1)
    model: Any = question.model
    network = model.module if framework == "torch" else model.model
    for _ in range(WARM):
        explainer(question)
    before, state = resident(), network_state("network", network)
    for _ in range(CALLS - WARM):
        explainer(question)
    assert network_state("network", network) == state
    grown = resident() - before
    assert grown < 12, f"{grown:.0f} MB more after {CALLS - WARM} calls"
