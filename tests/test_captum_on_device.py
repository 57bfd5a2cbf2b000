"""Captum on a module's device: tensors from end to end, and the maps of the way through arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import toys

from crossxai import Modality, Question, Target
from crossxai.adapters.torch import TorchModel
from crossxai.errors import BrokenAssumption
from crossxai.explainers import get
from crossxai.explainers.tensor_scores import device_scores

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("saliency", {}),
    ("input_x_gradient", {"profile": "canonical"}),
    ("integrated_gradients", {"steps": 9}),
    ("gradient_shap", {"samples": 3, "stdev": 0.1}),
    ("smooth_grad", {"samples": 4, "sd": 0.1}),
    ("var_grad", {"samples": 4, "sd": 0.1, "profile": "canonical"}),
    ("occlusion", {"patch": 12, "stride": 8}),
    ("feature_ablation", {"patch": 8}),
    ("modality_ablation", {}),
]


class Two(torch.nn.Module):
    """An image and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.table = toys.torch_model().module, torch.nn.Linear(4, 3)

    def forward(self, image: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return self.image(image) * torch.tanh(self.table(table))


def ask(link: Any, free: tuple[str, ...] = ()) -> Question:
    torch.manual_seed(0)
    model = TorchModel(Two().eval(), (Modality.image(), Modality.table(("a", "b", "c", "d"))), outputs="logits")
    table = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    question = Question(model, (toys.images(5), table), Target.classes(np.arange(5) % 3, 3, link), batch_size=3)
    return question.only(*free) if free else question


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU taken for a device apart, and arrays refused once the question is trusted."""
    monkeypatch.setattr(TorchModel, "tensor_device", lambda self: torch.device("cpu"))


@pytest.mark.parametrize("link", ["identity", "softmax", "sigmoid"])
@pytest.mark.parametrize(("name", "params"), METHODS[:3])
def test_maps_are_those_of_the_way_through_arrays(
    monkeypatch: pytest.MonkeyPatch, name: str, params: Any, link: str
) -> None:
    same(monkeypatch, name, params, ask(link))


@pytest.mark.parametrize("free", [("image",), ("image", "table")])
@pytest.mark.parametrize(("name", "params"), METHODS[3:])
def test_of_one_input_or_several(
    monkeypatch: pytest.MonkeyPatch, name: str, params: Any, free: tuple[str, ...]
) -> None:
    same(monkeypatch, name, params, ask("softmax", free), there=name != "occlusion" or len(free) == 1)


def same(monkeypatch: pytest.MonkeyPatch, name: str, params: Any, question: Question, there: bool = True) -> None:
    explainer = get(f"captum.{name}", **params)
    expected = explainer(question).values
    asked = []
    for verb in ("scores_there", "gradients_there"):
        own = getattr(TorchModel, verb)
        monkeypatch.setattr(TorchModel, verb, lambda *given, own=own: asked.append(len(given[1][0])) or own(*given))
    monkeypatch.setattr(TorchModel, "tensor_device", lambda self: torch.device("cpu"))
    for ours, theirs in zip(explainer(question).values, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-7 + 1e-6 * np.abs(theirs).max())
    assert sum(asked) >= len(question) * there
    assert max(asked, default=0) <= question.batch_size


@pytest.mark.usefixtures("there")
def test_memory_that_runs_out_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    own, sizes = TorchModel.gradients_there, []

    def small(model: TorchModel, inputs: list[Any], *how: Any) -> Any:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 1:
            raise MemoryError
        return own(model, inputs, *how)

    question = ask("softmax")
    question.trusted(gradients=True)
    monkeypatch.setattr(TorchModel, "gradients_there", small)
    get("captum.saliency")(question)
    assert sizes == [3, 1, 1, 1, 1, 1]


@pytest.mark.usefixtures("there")
def test_a_score_that_is_not_finite() -> None:
    """As on the host: beside it a gradient is refused, and a drop is no map."""

    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean = x.mean(dim=(2, 3))
            return mean / (mean.amax(dim=1, keepdim=True) > 0.05)

    images = toys.images(3)
    question = Question(
        TorchModel(Broken().eval(), (Modality.image(),), outputs="logits"), (images,), Target.outputs(0, 3, 3)
    )
    with pytest.raises(BrokenAssumption, match="NaN or infinite"):
        get("captum.integrated_gradients", steps=20)(question)
    occluded = get("captum.occlusion", patch=32, stride=32)(question)
    assert occluded.notes == ("no map of samples 0, 1, 2: NaN or infinite",)


def test_log_odds_and_measures_take_the_way_through_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    question = ask("log_odds")
    monkeypatch.setattr(TorchModel, "tensor_device", lambda self: torch.device("cpu"))
    assert device_scores(question, "torch") is None
    assert device_scores(ask("softmax"), "torch") is not None
    assert device_scores(ask("softmax"), "tensorflow") is None


@pytest.mark.parametrize("name", ["saliency", "integrated_gradients", "gradient_shap", "smooth_grad", "occlusion"])
def test_no_tensor_is_left_on_the_host(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """On torch's pretended tensors, which lie on a GPU that is not there, and refuse to meet one of the CPU."""
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    fetched = []

    def numpy(tensor: torch.Tensor, **_: Any) -> np.ndarray:
        assert isinstance(tensor, FakeTensor)
        fetched.append(tensor.device.type)
        return np.zeros(tensor.shape, np.float32)

    explainer = get(f"captum.{name}", **{"smooth_grad": {"samples": 2}, "occlusion": {"patch": 16}}.get(name, {}))
    table = np.zeros((3, 4), np.float32)
    # These tensors do not survive being moved, and have no way back: a device that is not there has no engine.
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_: self)
    monkeypatch.setattr(torch.autograd, "grad", lambda _, inputs, *more, **kw: tuple(map(torch.zeros_like, inputs)))
    # What maps should add up to is asked on the host.
    monkeypatch.setattr(Question, "score", lambda self, *_: np.zeros(len(self), np.float32))
    with FakeTensorMode():
        with torch.device("cuda"):
            network = Two().eval()
        model = TorchModel(
            network, (Modality.image(), Modality.table(("a", "b", "c", "d"))), outputs="logits", device="cuda"
        )
        target = Target.classes(np.arange(3), 3, "softmax")
        question = Question(model, (toys.images(3), table), target, batch_size=2, check="off")
        question = question.only("image") if name == "occlusion" else question
        monkeypatch.setattr(torch.Tensor, "numpy", numpy)
        maps, *others = explainer.explain(question)[0]
    assert maps.shape[:3] == (3, 32, 32)
    assert [one.shape for one in others] == [(3, 4)] * (name != "occlusion")
    assert set(fetched) == {"cpu"}
