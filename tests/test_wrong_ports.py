"""A port with one planted mistake fails its certificate, which names the layer; a port without one holds.

Mistakes that change nothing are not planted: a ReLU6 where no activation reaches 6, even at samples ten times as large. Where a
norm and the activation after it change places, both layers give other values, and either name is right.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import wrong_ports

import crossxai as xai
from crossxai import Question, Target
from crossxai.adapters import recognition
from crossxai.conventions import certificate
from crossxai.conventions.certificate import certify
from crossxai.conventions.certificate_result import Certificate
from crossxai.experiment.ported import port_model
from crossxai.porting import to_keras, to_torch

TO = ("keras", "torch")


def question_to(network: object, seed: int) -> Question:
    """A question to a network about three images of noise, its model trusted."""
    images = np.random.default_rng([seed, 1]).random((3, wrong_ports.SIZE, wrong_ports.SIZE, 3), np.float32)
    model = recognition.wrap(network, modalities=(xai.Modality.image(),), name=f"network {seed}")
    return Question(model, (images,), Target.classes(np.arange(3), 4), check="off")


def original(to: str, seed: int) -> Question:
    """A question to a random network of the other framework."""
    return question_to((wrong_ports.torch_network if to == "keras" else wrong_ports.keras_network)(seed), seed)


def wrongly_ported(kind: str, to: str, question: Question, seed: int) -> tuple[Certificate, set[str]] | None:
    """The certificate of a port with one mistake, and the layers that it may name; None if the network has no place for it.

    Without maps: what fails without them fails with them.
    """
    graph = question.model.graph(question.inputs)
    seen = question.model.activations(tuple(10 * v for v in question.inputs))
    peaks = {node: float(seen[layer].max()) for layer, node in graph.layers.items() if layer in seen}
    drawn = wrong_ports.planted(kind, graph, peaks, np.random.default_rng([seed, 2]))
    if drawn is None:
        return None
    wrong, names = drawn
    module = to_keras.build(wrong)[0] if to == "keras" else to_torch.build(wrong)
    other = recognition.wrap(module, modalities=question.model.modalities, name="port")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "METHODS", {})
        return certify(question, replace(question, model=other)), names


def check_wrong(result: tuple[Certificate, set[str]], case: str) -> None:
    wrong, names = result
    assert not wrong.holds, case
    assert wrong.first is not None, case
    assert wrong.first.one in names, (case, wrong.first, names)


@pytest.fixture(scope="module")
def originals() -> dict[str, Question]:
    return {to: original(to, 17) for to in TO}


@pytest.mark.parametrize("to", TO)
def test_a_right_port_holds(originals: dict[str, Question], to: str) -> None:
    right = port_model(originals[to], to).certificate  # type: ignore[arg-type]
    assert right.holds, right.summary.to_string()
    assert right.first is None
    assert [line.reason for line in right.lines if line.kind == "training"] == [""]
    assert len(right.norms) >= 2


@pytest.mark.parametrize("to", TO)
def test_statistics_are_those_of_a_step_of_training(originals: dict[str, Question], to: str) -> None:
    """What torch's `train()` and Keras's `training=True` keep, but for torch's n / (n - 1); and nothing stays changed."""
    question = originals[to]
    model, given = question.model.exact(), question.inputs[0].astype(np.float64)
    before = model.predict((given,))
    found = model.trained_statistics((given,))
    np.testing.assert_array_equal(model.predict((given,)), before)
    if to == "keras":
        norm, images = model.module.norm, torch.from_numpy(given).movedim(-1, 1)
        values = model.module.stem(images).detach().movedim(1, -1).flatten(0, -2).numpy()
        kept, batch = (1 - norm.momentum) * norm.running_var.numpy(), norm.momentum * values.var(axis=0)
        model.module.train()(images)
        mean, variance = norm.running_mean.numpy(), kept + batch
        np.testing.assert_allclose(norm.running_var.numpy(), kept + batch * len(values) / (len(values) - 1), rtol=1e-12)
    else:
        model.model(given, training=True)
        norm = model.model.get_layer("norm")
        mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    np.testing.assert_allclose(found["norm"][0], mean, rtol=1e-12)
    np.testing.assert_allclose(found["norm"][1], variance, rtol=1e-12)


def test_a_mean_over_all_batches_is_not_measured() -> None:
    network = wrong_ports.torch_network(17)
    network.norm.momentum = None
    right = port_model(question_to(network, 17), "keras").certificate
    assert right.holds
    (reason,) = [line.reason for line in right.lines if line.kind == "training"]
    assert "momentum=None" in reason


@pytest.mark.parametrize(("number", "kind"), list(enumerate(wrong_ports.MISTAKES)))
def test_a_wrong_port_fails_and_its_layer_is_named(originals: dict[str, Question], number: int, kind: str) -> None:
    to = TO[number % 2]
    result = wrongly_ported(kind, to, originals[to], number)
    assert result is not None
    check_wrong(result, f"{kind} to {to}")
    assert result[0].trains_otherwise == (kind == "momentum")


@pytest.mark.deep
@pytest.mark.parametrize("block", range(10))
def test_two_hundred(block: int) -> None:
    """200 random networks: 100 from each framework to the other, each ported once right and once with one mistake."""
    for seed, to in itertools.product(range(10 * block, 10 * block + 10), TO):
        kind = list(wrong_ports.MISTAKES)[seed % len(wrong_ports.MISTAKES)]
        for draw in range(seed, seed + 1000, 100):  # a network that has a place for the mistake
            question = original(to, draw)
            result = wrongly_ported(kind, to, question, draw)
            if result is not None:
                break
        assert result is not None
        check_wrong(result, f"{kind} to {to}, network {draw}")
        right = port_model(question, to).certificate  # type: ignore[arg-type]
        assert right.holds, f"network {draw} to {to}: {right.summary.to_string()}"
        assert right.first is None, (draw, to, right.first)
