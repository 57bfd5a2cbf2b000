"""Nothing keeps a model that nobody else holds: no adapter, nothing known of it, nothing that libraries were handed."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from networks import zoo

from crossxai.explainers import get

ASKED = ["captum.saliency", "captum.deep_lift", "xplique.guided_backprop"]


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("name", ASKED)
def test_a_model_is_let_go(framework: str, name: str) -> None:
    question = zoo.question(framework, n=2)
    question.score_and_grad()
    get(name)(question)
    model: Any = question.model
    kept = [weakref.ref(one) for one in (question, model, model.network)]
    del question, model
    gc.collect()
    assert [one() for one in kept] == [None] * 3
