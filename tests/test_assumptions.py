"""What the seam relies on is measured: each kind of broken assumption, its healthy neighbour, and what the measuring costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from networks.planted import Scaled
from torch import nn
from torch.nn import functional as F

import crossxai
from crossxai import BrokenAssumption, Modality, ModelFailed, Question, Target, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.assumptions import trust
from crossxai.explainers import get

IMAGE = (Modality.image(),)
PAIR = (Modality.image(), Modality.table(("a", "b"), "table"))


def images(n: int = 3, size: int = 12) -> Any:
    return np.random.default_rng(0).random((n, size, size, 3)).astype(np.float32)


class Net(nn.Module):
    """Convolution, ReLU, mean, dense; `step` lies between the mean and the dense layer, `first` before everything."""

    def __init__(self, step: Callable[[Any], Any] | None = None, first: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)
        self.step, self.first = step or (lambda h: h), first or (lambda x: x)

    def forward(self, x: Any) -> Any:
        return self.head(self.step(F.relu(self.conv(self.first(x))).mean((2, 3))))


def half_cut(h: Any) -> Any:
    return torch.cat([h[:, :4], h[:, 4:].detach()], 1)


def scaled_by_batch(x: Any) -> Any:
    return x / x.abs().amax()


def asked(net: nn.Module, **options: Any) -> Question:
    return Question(TorchModel(net.eval(), IMAGE), (images(),), Target.classes([0, 1, 0], 2), **options)


RANDOM = {
    "dropout": Net(lambda h: F.dropout(h, 0.5)),
    "faint noise": Net(lambda h: h + 1e-3 * torch.randn_like(h)),
}
COUPLED = {
    "batch statistics": Net(nn.BatchNorm1d(8, track_running_stats=False).eval()),
    "the batch's largest value": Net(first=scaled_by_batch),
    "ranks within the batch": Net(lambda h: h + 0.1 * h.argsort(0).float()),
}
CUT = {
    "detach": Net(lambda h: h.detach()),
    "NumPy": Net(lambda h: torch.from_numpy(np.tanh(h.detach().numpy()))),
    "whole numbers": Net(lambda h: (h * 100).round() / 100),
    "half of the way": Net(half_cut),
    "a backward function": Net(lambda x: Scaled.apply(x, -1.0)),
    "a rounded image": Net(first=lambda x: (x * 8).floor() / 8),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_draws_in_evaluation_mode(kind: str) -> None:
    for explainer in ("captum.saliency", "reference.occlusion", "captum.deep_lift"):
        with pytest.raises(BrokenAssumption, match=r"other outputs for the same batch.*check=\"off\""):
            get(explainer)(asked(RANDOM[kind]))


@pytest.mark.parametrize("kind", COUPLED)
def test_samples_that_see_each_other(kind: str) -> None:
    with pytest.raises(BrokenAssumption, match=r"see each other|a sample alone"):
        asked(COUPLED[kind]).score()


@pytest.mark.parametrize(("sizes", "batch_size"), [((8, 99), 32), ((16, 17), 16), ((100, 999), 128), ((5, 5), 5)])
def test_samples_that_see_each_other_in_larger_batches_only(sizes: tuple[int, int], batch_size: int) -> None:
    """From a size on, at the question's own size only, at odd sizes."""

    def coupled(h: Any) -> Any:
        return h - h.mean(0) if sizes[0] <= len(h) <= sizes[1] else h

    question = asked(Net(coupled), batch_size=batch_size)
    if sizes[0] > 64:  # no batch of more is tried
        question.score()
        return
    with pytest.raises(BrokenAssumption, match=f"see each other in a batch of {batch_size}"):
        question.score()


def test_samples_that_see_each_other_in_odd_batches_only() -> None:
    with pytest.raises(BrokenAssumption, match=r"see each other|a sample alone"):
        asked(Net(lambda h: h - h.mean(0) * (len(h) > 1 and len(h) % 2))).score()


def test_a_batch_that_does_not_fit_into_memory_is_unknown() -> None:
    def f(v: Any) -> Any:
        if len(v) > 8:
            raise MemoryError
        return v.mean((1, 2))

    question = Question(FunctionModel(f, IMAGE), (images(),), Target.outputs(0, 3, 3))
    assert question.score().shape == (3,)
    _, fact = trust.scores_of(question.model, question.inputs)
    assert (fact.verdict, fact.found) == ("unknown", "a batch of 32 samples does not fit into memory")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["captum.saliency", "reference.saliency", "gradcam.gradcam"])
def test_a_later_sample_without_a_score_is_named(name: str, value: float) -> None:
    """Its gradient is as ordinary as the others'; only two samples are looked at beforehand."""
    x = images(9)
    x[:, :2, :2] = 0.5
    x[7, :2, :2] = 0.25  # less vivid than the others: not one of the two

    class Late(Net):
        def forward(self, v: Any) -> Any:
            lost = (v[:, :, :2, :2].mean((1, 2, 3)) < 0.3).float()[:, None]
            return super().forward(v) + torch.where(lost > 0, value, 0.0)

    question = Question(TorchModel(Late().eval(), IMAGE), (x,), Target.classes([0] * 9, 2))
    with pytest.raises(BrokenAssumption, match=r"NaN or infinite for sample 7, or"):
        get(name)(question)
    healthy = question[[0, 1, 8]]
    assert np.isfinite(get(name)(healthy).of("image")).all()
    assert get("captum.saliency")(Question(question.model, (x,), question.target, check="off")).of("image").shape


@pytest.mark.parametrize("kind", CUT)
def test_a_gradient_that_is_cut_or_wrong_is_refused_and_scores_are_not(kind: str) -> None:
    question = asked(CUT[kind])
    with pytest.raises(BrokenAssumption, match=r"cut|differs.*occlusion, RISE, LIME") as refused:
        get("captum.saliency")(question)
    assert "question" in str(refused.value)
    assert np.ptp(get("reference.occlusion", patch=4, stride=4)(question).of("image"))


def test_the_layer_where_a_gradient_is_lost_is_named() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.backbone, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            with torch.no_grad():
                h = self.backbone(x)
            return self.head(h.mean((2, 3)))

    with pytest.raises(BrokenAssumption, match=r"layer 'backbone' \(Conv2d\), which runs under torch.no_grad"):
        get("captum.saliency")(asked(Frozen()))
    # Below what is cut the gradient is right, and Grad-CAM there too.
    assert get("gradcam.gradcam", layer="backbone")(asked(Frozen())).of("image").any()


def test_weights_of_inference_mode() -> None:
    with torch.inference_mode():
        net = Net()
    with pytest.raises(BrokenAssumption, match="inference_mode"):
        get("captum.saliency")(asked(net))
    assert asked(net).score().shape == (3,)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_no_gradient_is_not_a_zero_gradient(framework: str) -> None:
    """A modality that feeds nothing has a map of zeros, and the answer says so; one whose way is cut is refused."""
    rng = np.random.default_rng(0)
    inputs = (images(), rng.normal(size=(3, 2)).astype(np.float32))

    def model(cut: bool) -> Any:
        if framework == "torch":

            class Two(nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.image, self.table = Net(), nn.Linear(2, 2)

                def forward(self, x: Any, t: Any) -> Any:
                    return self.image(x) + (self.table(t).detach() if cut else 0 * self.table(t))

            return TorchModel(Two().eval(), PAIR)
        keras.utils.set_random_seed(0)
        x, t = keras.Input((12, 12, 3)), keras.Input((2,))
        side = keras.layers.Dense(2)(t)
        side = keras.layers.Lambda(lambda v: tf.stop_gradient(v) if cut else 0.0 * v)(side)
        h = keras.layers.Dense(2)(
            keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(x))
        )
        return KerasModel(keras.Model([x, t], keras.layers.Add()([h, side])), PAIR)

    target = Target.classes([0, 1, 0], 2)
    answer = get("captum.saliency")(Question(model(False), inputs, target))
    assert not answer.of("table").any()
    assert any("does not depend on table" in note for note in answer.notes)
    question = Question(model(True), inputs, target)
    with pytest.raises(BrokenAssumption, match=r"move with table.*question.only\('image'\)"):
        get("captum.saliency")(question)
    assert get("captum.saliency")(question.only("image")).of("image").any()


def test_columns_that_are_codes() -> None:
    """Whole numbers of an embedding have no gradient; nothing but observed codes is tried."""

    class Codes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embedding, self.head = nn.Embedding(4, 3), nn.Linear(4, 2)

        def forward(self, t: Any) -> Any:
            return self.head(torch.cat([self.embedding(t[:, 0].long()), t[:, 1:]], 1))

    table = (Modality.table(("ward", "age")),)
    question = Question(
        TorchModel(Codes().eval(), table),
        (np.array([[0, 0.5], [3, 1.5], [1, 0.1]], np.float32),),
        Target.classes([0, 1, 1], 2),
    )
    with pytest.raises(BrokenAssumption, match=r"table \(ward\)"):
        get("captum.integrated_gradients")(question)
    assert get("captum.feature_ablation")(question).of("table").any()


def test_what_off_means() -> None:
    """Answers come all the same, and say so."""
    answer = get("captum.saliency")(asked(RANDOM["dropout"], check="off"))
    assert answer.notes == ("what the answer relies on was not checked, as asked",)
    with pytest.raises(crossxai.InvalidInput, match='check is "on" or "off"'):
        asked(Net(), check="maybe")


def test_what_the_measuring_costs() -> None:
    """The four facts: at most twelve forward passes, of 65 samples in all where they are small, and one batch of the question's
    size among them; and nothing the second time."""
    seen: list[int] = []
    net = Net()
    net.conv.register_forward_hook(lambda _m, given, _o: seen.append(len(given[0])))
    question = asked(net)
    question.trusted(gradients=True)
    crossxai.outputs.kind(question.model, question.inputs)
    assert len(seen) <= 12
    assert sum(seen) <= 65 + 32, "two samples, copies of them, and the ways between them; and a batch"
    seen.clear()
    question.trusted(gradients=True)
    question[[2, 1]].trusted(gradients=True)
    assert not seen


def test_a_changed_network_is_measured_again() -> None:
    net = Net()
    question = asked(net)
    question.score()
    net.head = nn.Sequential(net.head, nn.BatchNorm1d(2, track_running_stats=False)).eval()
    with pytest.raises(BrokenAssumption, match="a sample alone"):
        question.score()


def test_models_and_libraries_that_raise_are_said_in_words() -> None:
    class Broken(nn.Module):
        def forward(self, x: Any) -> Any:
            return x[:, 99]

    with pytest.raises(ModelFailed, match=r"model 'pytorch' failed.*\(2, 12, 12, 3\)"):
        asked(Broken()).score()
    with pytest.raises(ModelFailed, match="failed on inputs"):
        Question(FunctionModel(lambda _x: 1 / 0, IMAGE), (images(),), Target.outputs(0, 3, 1)).score()


def test_compiled_parallel_and_scripted_modules() -> None:
    net = Net()
    plain = get("captum.saliency")(asked(net)).of("image")
    for wrapped in (torch.compile(net), nn.DataParallel(net)):
        question = asked(wrapped)
        np.testing.assert_allclose(get("captum.saliency")(question).of("image"), plain, atol=1e-6)
        assert question.cam_layer() == "conv"

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = net.conv, net.head

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(F.relu(self.conv(x)).mean((2, 3)))

    with pytest.warns(FutureWarning, match="deprecated"):
        scripted = asked(torch.jit.trace(Plain().eval(), torch.zeros(2, 3, 12, 12)))
    np.testing.assert_allclose(get("captum.saliency")(scripted).of("image"), plain, atol=1e-6)
    with pytest.raises(Unsupported, match="TorchScript"):
        get("gradcam.gradcam")(scripted)


def test_volumes_are_declared() -> None:
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv3d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.head(torch.tanh(self.conv(x)).mean((2, 3, 4)))

    volume = Modality.volume("ct")
    assert volume.kind == "volume"
    x = np.random.default_rng(0).random((2, 5, 6, 7, 1)).astype(np.float32)
    question = Question(TorchModel(Three().eval(), (volume,)), (x,), Target.classes([0, 1], 2))
    assert get("captum.saliency")(question).of("ct").shape == x.shape


def test_check_has_a_row_per_fact() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    model = TorchModel(net.eval(), IMAGE)
    x = images(12)
    found = crossxai.check(model, x, Target.classes(np.zeros(12, int), 4), labels=np.arange(12) % 4)
    assert not found.broken
    names = [fact.name for fact in found.facts]
    for name in (
        "deterministic",
        "samples independent",
        "gradient at image",
        "outputs",
        "weights trained",
        "target",
        "twin",
    ):
        assert name in names, name
    assert "1 of 1 batch norms have mean 0, variance 1" in str(found)
    assert "in place" in str(found)
    assert repr(found) == f"Check(pytorch: {len(names)} facts, 0 broken)"
    assert found._repr_html_().count("<tr>") == len(names) + 1
    broken = crossxai.check(TorchModel(RANDOM["dropout"].eval(), IMAGE), x)
    assert [fact.name for fact in broken.broken] == ["deterministic"]
    unit = crossxai.check(model, (x * 255).astype(np.float32))
    assert "declared range" in unit.broken[0].found
    narrow = crossxai.check(model, x / 255)
    assert any(f.name == "values of image" and f.verdict == "note" for f in narrow.facts)


def test_the_command(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from crossxai.cli import app

    (tmp_path / "nets_to_check.py").write_text(
        "from crossxai import Modality\nfrom crossxai.adapters.numpy import FunctionModel\nimport numpy as np\n"
        "def good():\n    return FunctionModel(lambda x: x.mean((1, 2)), (Modality.image(),))\n"
        "def bad():\n    return FunctionModel(lambda x: x.mean((1, 2)) + np.random.random(), (Modality.image(),))\n"
    )
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["check", "nets_to_check:good", "--size", "16"])
    assert done.exit_code == 0, done.output
    assert "Nothing is broken." in done.output
    done = CliRunner().invoke(app, ["check", "nets_to_check:bad", "--size", "16"])
    assert done.exit_code == 1
    assert "broken   deterministic" in done.output


def healthy() -> dict[str, Callable[[], nn.Module]]:
    from torchvision import models

    names = (
        "resnet18",
        "resnet50",
        "vgg11",
        "densenet121",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "efficientnet_b0",
        "convnext_tiny",
        "swin_t",
    )
    found: dict[str, Callable[[], nn.Module]] = {name: getattr(models, name) for name in names}

    def vit() -> nn.Module:
        net = models.VisionTransformer(64, 16, 12, 12, 768, 3072)
        nn.init.normal_(net.heads[-1].weight, std=0.02)  # type: ignore[arg-type]
        return net

    found["vit_b_16"] = vit
    found["googlenet"] = lambda: models.googlenet(weights=None, aux_logits=False, init_weights=False)
    found["deeplabv3"] = lambda: models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)
    return found


@pytest.mark.deep
@pytest.mark.parametrize("name", healthy())
def test_healthy_networks_are_not_refused(name: str) -> None:
    """torchvision's, random weights, small photographs."""
    from test_layouts import photographs

    for seed in (0, 1):
        torch.manual_seed(seed)
        axes = ("y", "x", "class") if name == "deeplabv3" else ("class",)
        model = TorchModel(
            healthy()[name]().eval(),
            IMAGE,
            output_axes=axes,
            standardise={"image": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))},
        )
        x = photographs(64)
        facts = [*trust.scores_of(model, (x,)), *trust.gradients_of(model, (x,)).values()]
        assert {fact.verdict for fact in facts} == {"holds"}, [f.found for f in facts]
        classes = model.predict((x,)).shape[-1]
        target = (
            Target.regions(np.ones((2, 64, 64), bool), 1, classes) if len(axes) > 1 else Target.classes([1, 2], classes)
        )
        answer = get("gradcam.gradcam")(Question(model, (x,), target))
        assert answer.of("image").shape == (2, 64, 64, 1)


def test_a_changed_keras_model_is_measured_again() -> None:
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [keras.Input((12, 12, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, name="head")]
    )
    question = Question(KerasModel(net, IMAGE), (images(),), Target.classes([0, 1, 0], 2))
    question.score()
    net.get_layer("head").activation = lambda y: y - tf.reduce_mean(y, axis=0, keepdims=True)
    with pytest.raises(BrokenAssumption, match="see each other"):
        question.score()
