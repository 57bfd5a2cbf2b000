"""What the package's own tests may be: the contract, on the models it is meant for."""

import numpy as np
from crossxai_example import Contrast, TopDrop

from crossxai import Attribution, Question, Target
from crossxai.testing import check_explainer, check_metric, check_model, linear_question


def test_contract() -> None:
    question, _ = linear_question()
    answer = check_explainer(Contrast(times=0.5), question)
    assert isinstance(answer, Attribution)
    assert check_metric(TopDrop(share=0.2)) == ("end points: the metric has no curve",)


def test_on_a_network_of_mine() -> None:
    import torch
    from torch import nn

    from crossxai import Modality
    from crossxai.adapters.torch import TorchModel

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).double()
    model = TorchModel(net.eval(), (Modality.image(),))
    images = np.random.default_rng(0).random((3, 16, 16, 3))
    assert check_model(model, (images,)) == ()  # nothing was left out
    check_explainer(Contrast(), Question(model, (images,), Target.classes([0, 1, 0], 2)))
