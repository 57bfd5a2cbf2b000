"""Networks that others made, untrained: no verb refuses them, and their layers tell what their axes mean."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from crossxai import Modality
from crossxai.adapters.tensorflow import KerasModel

pytestmark = pytest.mark.deep


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("ResNet50", "conv5_block3_out"),
        ("VGG16", "block5_pool"),
        ("DenseNet121", "relu"),
        ("MobileNetV2", "out_relu"),
        ("MobileNetV3Small", "activation_17"),
        ("EfficientNetB0", "top_activation"),
        ("ConvNeXtTiny", "convnext_tiny_stage_3_block_2_identity"),
    ],
)
def test_every_verb(name: str, last: str) -> None:
    keras.backend.clear_session()  # names of layers count up in a process
    keras.utils.set_random_seed(0)
    net: Any = getattr(keras.applications, name)(
        weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None
    )
    model = KerasModel(net, (Modality.image(range=(0.0, 255.0)),))
    values = (np.random.default_rng(0).random((2, 64, 64, 3)) * 255).astype(np.float32)
    outputs = model.predict((values,))
    np.testing.assert_allclose(outputs, np.asarray(net(values, training=False)), rtol=1e-4, atol=1e-5)
    assert model.traced_matches((values,))
    activations = model.activations((values,))
    spatial = [
        n
        for n, a in activations.items()
        if a.ndim == 4 and a.shape[1] > 1 and model.axes_of(n) == ("y", "x", "channel")
    ]
    assert spatial[-1] == last
    weights = np.eye(10, dtype=np.float32)[[3, 7]]
    again, gradients = model.vjp((values,), lambda _outputs: weights)
    np.testing.assert_allclose(again, outputs, rtol=1e-4, atol=1e-5)
    assert np.isfinite(gradients[0]).all()
    _, activation, gradient = model.layer_vjp((values,), lambda _outputs: weights, last)
    assert activation.shape == gradient.shape == activations[last].shape
    assert gradient.any()
    np.testing.assert_allclose(model.replace((values,), last, activation), outputs, rtol=1e-4, atol=1e-5)
