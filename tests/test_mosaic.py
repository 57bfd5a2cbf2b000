"""The grid pointing game: whose cell, which companions, which sizes."""

from dataclasses import replace

import numpy as np
import pytest
from networks import toys

from crossxai import InvalidInput, Modality, Question, Target, Unsupported
from crossxai.evaluation.metrics.grid_pointing import GridPointing
from crossxai.explainers import get
from crossxai.testing import colours_question
from crossxai.testing.oracles import Oracle, anew, truth


@pytest.mark.parametrize("mosaic", ["same", "double"])
def test_truth_points_at_its_own_cell(mosaic):
    question, metric = colours_question(), GridPointing(mosaic=mosaic)
    asked = []

    def recording(q, seed):
        asked.append(q.inputs[0].shape)
        return truth(q)

    explainer = Oracle(recording)
    found = metric(question, explainer(question), explainer)
    assert (found.value > 0.8).all()
    assert found.extras["hit"].all()
    assert found.extras["pointing"].all()
    np.testing.assert_array_equal(found.extras["chance"], 0.25)
    assert asked[1:] == [(12, 16, 16, 3) if mosaic == "same" else (12, 32, 32, 3)]
    noise = Oracle(anew)
    assert metric(question, noise(question), noise).value.mean() == pytest.approx(0.25, abs=0.02)
    flat = Oracle(lambda q, seed: np.ones((len(q), *q.inputs[0].shape[1:3], 1)))  # all cells tie
    tied = metric(question, flat(question), flat)
    np.testing.assert_allclose([tied.value, tied.extras["hit"], tied.extras["pointing"]], 0.25)


def test_mosaics_by_hand():
    question, metric = colours_question(), GridPointing(mosaic="same")
    plan = metric.plan(question)
    labels = np.arange(12) % 3
    for row, cells in enumerate(plan):
        assert (cells == row).sum() == 1
        others = cells[cells != row]
        assert row not in others
        assert (labels[others] != labels[row]).all()
        assert len(set(labels[others])) == 2  # both other classes are there
    assert len({int(np.flatnonzero(cells == row)[0]) for row, cells in enumerate(plan)}) > 1
    big = GridPointing(mosaic="double").mosaics(question, question.modalities[0], plan)
    small = metric.mosaics(question, question.modalities[0], plan)
    for row, (a, b, c, d) in enumerate(plan):
        images = question.inputs[0]
        rows = np.concatenate([images[a], images[b]], 1), np.concatenate([images[c], images[d]], 1)
        whole = np.concatenate(rows, 0)
        np.testing.assert_array_equal(big[row], whole)
        by_hand = (whole[::2, ::2] + whole[1::2, ::2] + whole[::2, 1::2] + whole[1::2, 1::2]) / 4
        np.testing.assert_allclose(small[row], by_hand)


def test_neither_order_nor_batch_matters():
    question, explainer = colours_question(), Oracle(truth)
    expected = GridPointing()(question, explainer(question), explainer).value
    order = np.random.default_rng(0).permutation(12)
    shuffled = replace(question[order], batch_size=1)
    np.testing.assert_allclose(GridPointing()(shuffled, explainer(shuffled), explainer).value, expected[order])


def test_two_samples_are_enough_and_one_class_is_not():
    question, explainer = colours_question(2), Oracle(truth)
    assert (GridPointing()(question, explainer(question), explainer).value > 0.5).all()
    same = replace(question, target=Target.classes([1, 1], 3))
    with pytest.raises(Unsupported, match="all are of one"):
        GridPointing()(same, explainer(same), explainer)


@pytest.mark.parametrize("model", [toys.torch_model, toys.keras_model])
def test_networks(model):
    question, explainer = toys.question(model()), get("reference.gradient_x_input")
    found = GridPointing(mosaic="same")(question, explainer(question), explainer)
    assert ((found.value >= 0) & (found.value <= 1)).all()


def test_a_network_of_one_size_refuses_larger_mosaics():
    question, explainer = toys.question(toys.keras_model()), get("reference.gradient_x_input")
    with pytest.raises(Unsupported, match="twice as high and wide: write mosaic='same'"):
        GridPointing()(question, explainer(question), explainer)


def test_undefined_and_refused():
    question = colours_question(3)
    negative = Oracle(lambda q, seed: -np.abs(truth(q)))
    found = GridPointing()(question, negative(question), negative)
    assert np.isnan([found.value, found.extras["hit"], found.extras["pointing"]]).all()
    odd = replace(question, inputs=(question.inputs[0][:, :15],))
    with pytest.raises(Unsupported, match="15 × 16 is odd: write mosaic='double'"):
        GridPointing(mosaic="same").check(odd)
    with pytest.raises(InvalidInput, match="unknown mosaic 'big': write same or double"):
        GridPointing(mosaic="big")
    model = type("Table", (), {"name": "t", "modalities": (Modality.table(("a", "b")),), "predict": None})()
    with pytest.raises(Unsupported, match="puts images together"):
        GridPointing().check(Question(model, (np.ones((2, 2), np.float32),), Target.classes([0, 1], 2)))


@pytest.mark.parametrize("name", ["captum.saliency", "xplique.saliency"])
def test_a_keras_network_of_one_size_is_a_refusal_in_every_library(name):
    """Xplique asks from inside a graph of TensorFlow, whose errors are neither RuntimeErrors nor ValueErrors."""
    import keras

    from crossxai.adapters.tensorflow import KerasModel

    x = start = keras.Input((None, None, 3))
    x = keras.layers.Reshape((8 * 8 * 3,))(x)
    model = KerasModel(keras.Model(start, keras.layers.Dense(3)(x)), (Modality.image(),))
    question = Question(model, (toys.images(3)[:, :8, :8],), Target.classes([0, 1, 2], 3))
    explainer = get(name)
    with pytest.raises(Unsupported, match="cannot take images twice as high and wide: write mosaic='same'"):
        GridPointing()(question, explainer(question), explainer)
