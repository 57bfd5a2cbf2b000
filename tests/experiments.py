"""What the tests of runs share: the command line in this process, a small experiment, models and data of a user's own."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from crossxai import cli


def crossxai(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "100"})


SMALL: dict[str, Any] = {
    "title": "small",
    "controls": False,
    "data": {"n": 3},
    "models": [{"name": "pytorch"}],
    "explainers": [{"name": "captum.saliency"}, {"name": "gradcam.gradcam"}, {"name": "controls.random"}],
    "metrics": [{"name": "deletion", "params": {"steps": 4}}],
}


def toml(content: dict[str, Any]) -> str:
    """Enough TOML for these experiments: tables, arrays of tables, scalars and inline tables."""

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{ " + ", ".join(f"{k} = {value(v)}" for k, v in item.items()) + " }"
        if isinstance(item, list):
            return "[ " + ", ".join(value(v) for v in item) + " ]"
        return json.dumps(item)

    return "\n".join(f"{key} = {value(item)}" for key, item in content.items())


BOTH = """
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel
from crossxai.files import Samples

MODALITIES = (Modality.image(), Modality.table(('age', 'dose')))

def data():
    rng = np.random.default_rng(0)
    inputs = {'image': rng.random((3, 16, 16, 3), np.float32), 'table': rng.random((3, 2), np.float32)}
    return Samples(('a', 'b', 'c'), MODALITIES, inputs, np.array([0, 1, 1]), ('no', 'yes'))
def model():
    def f(image, table):
        s = 4 * image[:, :8, :8].mean(axis=(1, 2, 3)) * table[:, 0]
        return np.stack([-s, s], axis=1)
    return FunctionModel(f, MODALITIES)
"""

OWN = """
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel

def model(f, name='image'):
    return FunctionModel(f, (Modality.image(name),))
def halves():
    return model(lambda x: np.full((len(x), 2), 0.5))
def pair():
    return model(lambda x: np.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], 1))
def bounded():
    return model(lambda x: 0.4 + 0.1 * np.sin(x.mean((1, 2)))[:, :2])
def nothing():
    return model(lambda x: np.full((len(x), 2), np.nan))
def single():
    return model(lambda x: x.mean(axis=(1, 2, 3))[:, None])
def other():
    return model(lambda x: x.mean(axis=(1, 2))[:, :2], 'photo')

def samples(images):
    from crossxai.files import Samples

    return Samples(tuple('ab'), (Modality.image(),), {'image': images}, np.arange(2), ('no', 'yes'))
def ragged():
    images = np.empty(2, object)
    images[:] = [np.zeros((8 + i, 9, 3), np.float32) for i in range(2)]
    return samples(images)
def bytes_():
    return samples(np.zeros((2, 8, 8, 3), np.uint8))
def raises():
    raise KeyError('lost')
"""
