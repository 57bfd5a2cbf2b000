"""The fusion networks: one function in PyTorch and in Keras, known to every tracer and hook, and whole in a checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crossxai import explainers
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.errors import InvalidFile, InvalidInput, UnknownName
from crossxai.model import Modality
from crossxai.porting import twin
from crossxai.question import Question
from crossxai.studies.networks import keras_networks, loading, torch_networks, weight_files
from crossxai.target import Target

CT = Modality.image("ct", ("intensity",))
TABLE = Modality.table(tuple(f"feature {i}" for i in range(12)))
MODALITIES = {
    "fusion_classifier": (CT, TABLE),
    "fusion_classifier_resnet18": (CT, TABLE),
    "fusion_regressor": (Modality.image("t1", ("intensity",)), Modality.image("t2", ("intensity",))),
    "fusion_unet": (Modality.image("flair", ("intensity",)), Modality.image("t1ce", ("intensity",))),
}
PARAMETERS = {"fusion_classifier": 45_442, "fusion_regressor": 22_337}
CAM = {
    "fusion_classifier": {"ct": "ct.relu2"},
    "fusion_classifier_resnet18": {"ct": "ct.layer4"},
    "fusion_regressor": {"t1": "t1.relu2", "t2": "t2.relu2"},
    "fusion_unet": {"flair": "flair.relu3", "t1ce": "t1ce.relu3"},
}
SIZE = 32
EVERY = pytest.mark.parametrize("architecture", list(MODALITIES))


def lively(architecture: str, dtype: torch.dtype = torch.float64) -> Any:
    """A network whose biases, batch-norm statistics, scales and shifts are far from 0 and 1."""
    module = torch_networks.fusion_network(architecture, seed=0)
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
            part.running_mean.normal_(0, 0.3, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
        elif isinstance(part, torch.nn.Conv2d | torch.nn.Linear | torch.nn.ConvTranspose2d) and part.bias is not None:
            part.bias.data.normal_(0, 0.2, generator=generator)
    return module.eval().to(dtype)


def arrays(module: Any) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in module.state_dict().items()}


def inputs(architecture: str, n: int = 3, size: int = SIZE, dtype: Any = np.float64) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(7)
    return tuple(
        (rng.random((n, size, size, 1)) if m.spatial else rng.normal(size=(n, 12))).astype(dtype)
        for m in MODALITIES[architecture]
    )


def options(architecture: str) -> dict[str, Any]:
    first = MODALITIES[architecture][0].name
    axes = ("y", "x", "class") if architecture == "fusion_unet" else ("class",)
    return {"standardise": {first: ([0.4], [0.2])}, "output_axes": axes}


def both(architecture: str, size: int = SIZE) -> tuple[TorchModel, KerasModel]:
    """Random weights in both frameworks, float64, behind adapters that standardise the first modality."""
    module = lively(architecture)
    ported = keras_networks.fusion_network(architecture, size, "float64")
    keras_networks.set_weights_from(ported, arrays(module))
    declared = MODALITIES[architecture], options(architecture)
    return TorchModel(module, declared[0], **declared[1]), KerasModel(ported, declared[0], **declared[1])


@pytest.fixture(scope="module", params=list(MODALITIES))
def pair(request: pytest.FixtureRequest) -> tuple[str, TorchModel, KerasModel]:
    return (request.param, *both(request.param))


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    assert np.abs(expected).max() > 0
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("architecture", list(PARAMETERS))
def test_numbers_of_parameters(architecture: str) -> None:
    assert sum(p.numel() for p in torch_networks.fusion_network(architecture).parameters()) == PARAMETERS[architecture]
    trainable = keras_networks.fusion_network(architecture, SIZE).trainable_weights
    assert sum(int(np.prod(w.shape)) for w in trainable) == PARAMETERS[architecture]


def test_the_same_outputs_and_gradients(pair: tuple[str, TorchModel, KerasModel]) -> None:
    architecture, first, second = pair
    given = inputs(architecture)
    expected = first.predict(given)
    assert expected.dtype == np.float64
    assert expected.shape == {"fusion_unet": (3, SIZE, SIZE, 1), "fusion_regressor": (3, 1)}.get(architecture, (3, 2))
    weights = np.random.default_rng(1).normal(size=expected.shape)
    (out, grads), (out_keras, grads_keras) = (m.vjp(given, lambda _y: weights) for m in (first, second))
    assert relative(out_keras, out) <= 1e-12
    for found, wanted in zip(grads_keras, grads, strict=True):
        assert relative(found, wanted) <= 1e-12


def test_a_flattened_encoder_at_another_size() -> None:
    """Windows of 3 × 3 in the adaptive pool, whose values enter the dense layer in another order in each framework."""
    first, second = both("fusion_classifier", 48)
    given = inputs("fusion_classifier", size=48)
    assert relative(second.predict(given), first.predict(given)) <= 1e-12


def test_layers_of_one_name_hold_the_same(pair: tuple[str, TorchModel, KerasModel]) -> None:
    architecture, first, second = pair
    given = inputs(architecture, n=1)
    ours, theirs = first.activations(given), second.activations(given)
    ours = {n: np.moveaxis(a, 1, -1) if a.ndim == 4 else a for n, a in ours.items()}  # torch's own order
    shared = [n for n, a in ours.items() if a.shape == getattr(theirs.get(n.replace(".", "_")), "shape", None)]
    shared.remove("ct.flatten") if "ct.flatten" in shared else None  # whose order differs
    assert len(shared) >= 15
    for name in shared:
        np.testing.assert_allclose(theirs[name.replace(".", "_")], ours[name], atol=1e-12, err_msg=name)
    assert {name.replace(".", "_") for name in CAM[architecture].values()} <= {n.replace(".", "_") for n in shared}


def test_weights_go_both_ways(pair: tuple[str, TorchModel, KerasModel]) -> None:
    _, first, second = pair
    expected, found = arrays(first.module), keras_networks.state_from(second.model)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    first.module.load_state_dict({name: torch.from_numpy(values) for name, values in found.items()})


def test_every_tracer_knows_them(pair: tuple[str, TorchModel, KerasModel]) -> None:
    architecture, first, second = pair
    given = inputs(architecture)
    assert twin(first, given, "keras").gap <= 1e-12
    assert twin(second, given, "torch").gap <= 1e-12
    single = tuple(v.astype(np.float32) for v in given)
    plain = TorchModel(lively(architecture, torch.float32), first.modalities, **options(architecture))
    assert twin(plain, single, "keras").gap <= 1e-5


def test_explainers_that_hook_agree_on_both(pair: tuple[str, TorchModel, KerasModel]) -> None:
    architecture, first, second = pair
    given = inputs(architecture)
    target = (
        Target.regions(np.ones((3, SIZE, SIZE)), 0, 1)
        if architecture == "fusion_unet"
        else Target.outputs(0, 3, first.predict(given).shape[1])
    )
    asked = [Question(m, given, target) for m in (first, second)]
    ours, theirs = (explainers.get("captum.deep_lift")(q) for q in asked)
    for wanted, found in zip(ours.values, theirs.values, strict=True):
        assert relative(found, wanted) <= 1e-9
    for modality, layer in CAM[architecture].items():
        names = layer, layer.replace(".", "_")
        read = [q.only(modality).layer_score_and_grad(name) for q, name in zip(asked, names, strict=True)]
        for wanted, found in zip(*read, strict=True):  # scores, activations, gradients: all of Grad-CAM
            assert relative(found, wanted) <= 1e-9
        cam, cam_keras = (
            explainers.get("gradcam.gradcam", layer=name)(q.only(modality)).of(modality)
            for q, name in zip(asked, names, strict=True)
        )
        np.testing.assert_allclose(cam_keras, cam, atol=1e-9)
        # The layer found without a name is one of this encoder alone.
        assert asked[0].only(modality).cam_layer().partition(".")[0] == modality


def test_only_the_flair_encoder_skips() -> None:
    """With the bottleneck's weights at zero, nothing of T1ce is left in the mask, and all of FLAIR's second stage is."""
    module = lively("fusion_unet")
    for values in module.up2.parameters():
        values.data.zero_()
    model = TorchModel(module, MODALITIES["fusion_unet"], **options("fusion_unet"))
    _, (flair, t1ce) = model.vjp(inputs("fusion_unet"), np.ones_like)
    assert np.abs(t1ce).max() == 0 < np.abs(flair).max()


def test_names_and_sizes_that_are_none() -> None:
    with pytest.raises(UnknownName, match="fusion_unet"):
        torch_networks.fusion_network("fusion_net")
    with pytest.raises(UnknownName, match="fusion_unet"):
        keras_networks.fusion_network("fusion_net")
    with pytest.raises(InvalidInput, match="multiple of 16, got 40"):
        keras_networks.fusion_network("fusion_unet", 40)


# Checkpoints


def saved(architecture: str, path: Path, called: str = "", **meta: Any) -> Path:
    declared = MODALITIES[architecture]
    return weight_files.write_modalities(
        path,
        arrays(lively(architecture, torch.float32)),
        {m.name: (np.full(len(m.features), 0.3), np.full(len(m.features), 0.5)) for m in declared},
        {
            "architecture": called or architecture,
            "n_classes": 1,
            "task": {"fusion_unet": "segmentation", "fusion_regressor": "regression"}.get(
                architecture, "classification"
            ),
            "modalities": [asdict(m) for m in declared],
            "size": SIZE,
            **meta,
        },
    )


@EVERY
def test_a_checkpoint_is_the_same_model_in_both(architecture: str, tmp_path: Path) -> None:
    path = saved(
        architecture,
        tmp_path / "model.npz",
        trained_without="table",
        metrics={"test": {"auc": 0.9}},
        keras={"test": {"auc": 0.8}},
    )
    given = inputs(architecture, dtype=np.float32)
    found = {f: loading.load(path, f) for f in ("torch", "tensorflow")}  # type: ignore[arg-type]
    first, second = (loaded.model.predict(given) for loaded in found.values())
    assert relative(second, first) <= 1e-5
    loaded = found["torch"]
    assert loaded.model.modalities == MODALITIES[architecture] == found["tensorflow"].model.modalities
    assert loaded.checkpoint.meta["architecture"] == architecture
    assert (loaded.trained_without, loaded.metrics) == ("table", {"auc": 0.9})
    assert found["tensorflow"].metrics == {"auc": 0.8}
    raw = lively(architecture, torch.float32)
    tensors = [torch.from_numpy((v - np.float32(0.3)) / np.float32(0.5)) for v in given]
    with torch.no_grad():
        expected = raw(*(t.movedim(-1, 1) if t.ndim == 4 else t for t in tensors)).numpy()
    np.testing.assert_allclose(np.moveaxis(first, -1, 1) if first.ndim == 4 else first, expected, atol=1e-5)
    assert loaded.standardise[loaded.model.modalities[1].name][0] == pytest.approx([0.3] * loaded_width(loaded))


def loaded_width(loaded: loading.Loaded) -> int:
    return len(loaded.model.modalities[1].features)


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_resnet18_checkpoints_load_the_same_way(framework: Any, tmp_path: Path) -> None:
    state = {name: values.numpy() for name, values in torch_networks.resnet18(3, seed=0).state_dict().items()}
    path = weight_files.write(
        tmp_path / "r.npz", state, [0.7] * 3, [0.2] * 3, {"architecture": "resnet18", "n_classes": 3}
    )
    loaded = loading.load(path, framework, "named")
    assert loaded.model.name == "named"
    assert loaded.model.predict((np.full((1, 96, 96, 3), 0.5, np.float32),)).shape == (1, 3)
    assert loaded.standardise == {"image": (pytest.approx([0.7] * 3), pytest.approx([0.2] * 3))}
    assert (loaded.task, loaded.trained_without, loaded.metrics) == ("classification", "", {})


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    path = saved("fusion_regressor", tmp_path / "model.npz", called="fusion_unet")
    for framework in ("torch", "tensorflow"):
        with pytest.raises(InvalidFile, match=r"(?s)model\.npz: .*flair"):
            loading.load(path, framework)  # type: ignore[arg-type]
    with pytest.raises(InvalidFile, match="expected 'resnet18'"):
        weight_files.read(path)
    other = saved("fusion_regressor", tmp_path / "other.npz", called="fusion_net")
    for framework in ("torch", "tensorflow"):
        with pytest.raises(InvalidFile, match="holds architecture 'fusion_net'; known are resnet18, fusion_classifier"):
            loading.load(other, framework)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="framework is 'torch' or 'tensorflow', got 'jax'"):
        loading.load(path, "jax")  # type: ignore[arg-type]


def test_a_modality_without_its_constants(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="mean and sd of every modality"):
        weight_files.write_modalities(tmp_path / "m.npz", {}, {}, {"architecture": "fusion_unet", "n_classes": 1})
    path = saved("fusion_regressor", tmp_path / "model.npz")
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files if name != "standardise.t2.sd"}
    np.savez(tmp_path / "less.npz", **content)
    with pytest.raises(InvalidFile, match=r"standardise\.t2\.mean and standardise\.t2\.sd must be equally many"):
        weight_files.read(tmp_path / "less.npz", None)
