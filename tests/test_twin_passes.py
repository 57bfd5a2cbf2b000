"""Methods that run on a twin: the passes through the model and through its twin together are as announced."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cheap import CHEAP
from networks import zoo

from crossxai import porting
from crossxai.explainers import discover, get
from crossxai.testing import Counting

MODULE = [(name, profile) for name, kind in discover().items() if kind.needs == "module" for profile in kind.profiles]


# A derivative of the gradient goes back through the gradient's graph, not through the outputs, where passes are counted.
SECOND_ORDER = {"gradcam.shapleycam": 1}


class Counted:
    """In place of `porting.twin`: the real one, of the model inside `Counting`, whose passes count for the latter."""

    def __init__(self, counting: Counting) -> None:
        self.counting = counting
        self.real = porting.twin

    def __call__(self, model: Any, inputs: Any, framework: Any, dtype: Any = None) -> porting.Twin:
        assert model is self.counting
        found = self.real(model.inner, inputs, framework, dtype)
        return self.torch(found) if framework == "torch" else self.keras(found)

    def forwards(self, n: int) -> None:
        self.counting.forward += n

    def backwards(self, n: int) -> None:
        self.counting.backward += n

    def torch(self, found: porting.Twin) -> porting.Twin:
        def hook(_module: Any, _inputs: Any, outputs: Any) -> None:
            self.forwards(len(outputs))
            if outputs.requires_grad:
                outputs.register_hook(lambda gradient: self.backwards(len(gradient)))

        found.module.register_forward_hook(hook)
        return found

    def keras(self, found: porting.Twin) -> porting.Twin:
        """With one layer more at the end, since the library copies the model layer by layer."""
        import keras
        import tensorflow as tf

        owner = self

        class Count(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                @tf.custom_gradient
                def counted(x: Any) -> Any:
                    tf.numpy_function(lambda n: owner.forwards(int(n)), [tf.shape(x)[0]], [], stateful=True)

                    def backward(upstream: Any) -> Any:
                        tf.numpy_function(lambda n: owner.backwards(int(n)), [tf.shape(upstream)[0]], [], stateful=True)
                        return upstream

                    return tf.identity(x), backward

                return counted(x)

        module = found.module
        return replace(found, module=keras.Model(module.inputs, Count(name="count")(module.outputs[0])))


@pytest.mark.parametrize(("inputs", "task"), [("image", "class"), ("image+table", "regression")])
@pytest.mark.parametrize(("name", "profile"), MODULE)
def test_passes(monkeypatch: pytest.MonkeyPatch, name: str, profile: str, inputs: str, task: str) -> None:
    explainer: Any = get(name, **{**CHEAP.get(name, {}), "profile": profile})
    question = zoo.question("torch", inputs, task, n=3)
    counting = Counting(question.model)
    twin = Counted(counting)
    holders = [
        m for key, m in sys.modules.items() if key.startswith("crossxai.") and vars(m).get("twin") is porting.twin
    ]
    assert holders
    for module in holders:
        monkeypatch.setattr(module, "twin", twin)
    answer = explainer(replace(question, model=counting))
    assert all(np.isfinite(values).all() for values in answer.values)
    forward, backward = explainer.cost(question)
    assert (counting.forward, counting.backward) == (3 * forward, 3 * (backward - SECOND_ORDER.get(name, 0)))
