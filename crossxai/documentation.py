"""Docstrings of explainers and metrics: their own words, the parameters that they inherit, and the papers in full."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

SECTION = re.compile(r"^(Parameters|Notes|References)\n-+\n", re.M)
PAPERS = {
    "Abnar & Zuidema 2020": "Quantifying Attention Flow in Transformers. ACL. arXiv:2005.00928",
    "Adebayo et al. 2018": "Sanity Checks for Saliency Maps. NeurIPS. arXiv:1810.03292",
    "Alvarez-Melis & Jaakkola 2018": "On the Robustness of Interpretability Methods. arXiv:1806.08049",
    "Ancona et al. 2018": "Towards better understanding of gradient-based attribution methods for Deep Neural "
    "Networks. ICLR. arXiv:1711.06104",
    "Arras et al. 2022": "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network "
    "explanations. Information Fusion 81",
    "Bach et al. 2015": "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise "
    "Relevance Propagation. PLOS ONE 10(7)",
    "Bell & Dean 1970": "Atomic vibrations in vitreous silica. Discussions of the Faraday Society 50",
    "Bhatt et al. 2020": "Evaluating and Aggregating Feature-based Model Explanations. IJCAI. arXiv:2005.00631",
    "Böhle et al. 2021": "Convolutional Dynamic Alignment Networks for Interpretable Classifications. CVPR. arXiv:2104.00032",
    "Cai 2025": "CAMs as Shapley Value-based Explainers. arXiv:2501.06261",
    "Castro et al. 2009": "Polynomial calculation of the Shapley value based on sampling. Computers & "
    "Operations Research 36(5)",
    "Chalasani et al. 2020": "Concise Explanations of Neural Networks using Adversarial Training. ICML. arXiv:1810.06583",
    "Chattopadhyay et al. 2018": "Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks. arXiv:1710.11063",
    "Chefer, Gur & Wolf 2021": "Generic Attention-model Explainability for Interpreting Bi-Modal and "
    "Encoder-Decoder Transformers. ICCV. arXiv:2103.15679",
    "Choe et al. 2020": "Evaluating Weakly Supervised Object Localization Methods Right. CVPR. arXiv:2001.07437",
    "Davis & Goadrich 2006": "The Relationship Between Precision-Recall and ROC Curves. ICML",
    "Desai & Ramaswamy 2020": "Ablation-CAM: Visual Explanations for Deep Convolutional Network via "
    "Gradient-free Localization. WACV",
    "DeYoung et al. 2020": "ERASER: A Benchmark to Evaluate Rationalized NLP Models. ACL. arXiv:1911.03429",
    "Dice 1945": "Measures of the Amount of Ecologic Association Between Species. Ecology 26(3)",
    "Draelos & Carin 2020": "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional "
    "neural networks. arXiv:2011.08891",
    "Fel et al. 2021": "Look at the Variance! Efficient Black-box Explanations with Sobol-based Sensitivity "
    "Analysis. NeurIPS. arXiv:2111.04138",
    "Fisher et al. 2019": "All Models are Wrong, but Many are Useful. JMLR 20(177). arXiv:1801.01489",
    "Fu et al. 2020": "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs. BMVC. arXiv:2008.02312",
    "Fuad et al. 2020": "Features Understanding in 3D CNNs for Actions Recognition in Video. IPTA",
    "Gildenblat 2021": "PyTorch library for CAM methods. https://github.com/jacobgil/pytorch-grad-cam",
    "Hooker et al. 2019": "A Benchmark for Interpretability Methods in Deep Neural Networks. NeurIPS. arXiv:1806.10758",
    "Jiang et al. 2021": "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization. IEEE TIP 30",
    "Karmani et al. 2024": "KPCA-CAM: Visual Explainability of Deep Computer Vision Models using Kernel PCA. arXiv:2410.00267",
    "Kindermans et al. 2019": "The (Un)reliability of Saliency Methods. arXiv:1711.00867",
    "Kokhlikyan et al. 2020": "Captum: A unified and generic model interpretability library for PyTorch. arXiv:2009.07896",
    "Lundberg & Lee 2017": "A Unified Approach to Interpreting Model Predictions. NeurIPS. arXiv:1705.07874",
    "Muhammad & Yeasin 2020": "Eigen-CAM: Class Activation Map using Principal Components. IJCNN. arXiv:2008.00299",
    "Muzellec et al. 2023": "Gradient strikes back: How filtering out high frequencies improves explanations. "
    "arXiv:2307.09591",
    "Novello et al. 2022": "Making Sense of Dependence: Efficient Black-box Explanations Using Dependence "
    "Measure. NeurIPS. arXiv:2206.06219",
    "Parcalabescu & Frank 2023": "MM-SHAP: A Performance-agnostic Metric for Measuring Multimodal "
    "Contributions in Vision and Language Models & Tasks. ACL. arXiv:2212.08158",
    "Petsiuk et al. 2018": "RISE: Randomized Input Sampling for Explanation of Black-box Models. BMVC. arXiv:1806.07421",
    "Ribeiro et al. 2016": '"Why Should I Trust You?": Explaining the Predictions of Any Classifier. KDD. arXiv:1602.04938',
    "Rieger & Hansen 2020": "IROF: a low resource evaluation metric for explanation methods. arXiv:2003.08747",
    "Rong et al. 2022": "A Consistent and Efficient Evaluation Strategy for Attribution Methods. ICML. arXiv:2202.00449",
    "Rudin et al. 1992": "Nonlinear total variation based noise removal algorithms. Physica D 60",
    "Samek et al. 2017": "Evaluating the Visualization of What a Deep Neural Network Has Learned. IEEE TNNLS "
    "28(11). arXiv:1509.06321",
    "Selvaraju et al. 2017": "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based "
    "Localization. ICCV. arXiv:1610.02391",
    "Shapley 1953": "A Value for n-Person Games. Contributions to the Theory of Games II",
    "Shrikumar et al. 2016": "Not Just a Black Box: Learning Important Features Through Propagating Activation "
    "Differences. arXiv:1605.01713",
    "Shrikumar et al. 2017": "Learning Important Features Through Propagating Activation Differences. ICML. arXiv:1704.02685",
    "Simonyan et al. 2013": "Deep Inside Convolutional Networks: Visualising Image Classification Models and "
    "Saliency Maps. arXiv:1312.6034",
    "Sixt et al. 2020": "When Explanations Lie: Why Many Modified BP Attributions Fail. ICML. arXiv:1912.09818",
    "Smilkov et al. 2017": "SmoothGrad: removing noise by adding noise. arXiv:1706.03825",
    "Springenberg et al. 2014": "Striving for Simplicity: The All Convolutional Net. arXiv:1412.6806",
    "Srinivas & Fleuret 2019": "Full-Gradient Representation for Neural Network Visualization. NeurIPS. arXiv:1905.00780",
    "Sundararajan et al. 2017": "Axiomatic Attribution for Deep Networks. ICML. arXiv:1703.01365",
    "Theiner et al. 2022": "Interpretable Semantic Photo Geolocation. WACV. arXiv:2104.14995",
    "Tursun et al. 2022": "SESS: Saliency Enhancing with Scaling and Sliding. ECCV. arXiv:2207.01769",
    "Wang et al. 2020": "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks. CVPR "
    "Workshops. arXiv:1910.01279",
    "Wang, Bovik & Evans 2000": "Blind measurement of blocking artifacts in images. ICIP",
    "Yeh et al. 2019": "On the (In)fidelity and Sensitivity of Explanations. NeurIPS. arXiv:1901.09392",
    "Zeiler & Fergus 2014": "Visualizing and Understanding Convolutional Networks. ECCV. arXiv:1311.2901",
    "Zhang et al. 2018": "Top-Down Neural Attention by Excitation Backprop. IJCV 126(10)",
    "Zhang et al. 2025": "Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation. arXiv:2501.11309",
}
"""The papers by the short names that classes give as `reference` or `source`, one line each."""


def sections(doc: str) -> dict[str, str]:
    """A numpydoc docstring by its headings; what comes before the first is under ""."""
    first, *rest = SECTION.split(doc)
    return {"": first.strip(), **{name: text.strip() for name, text in zip(rest[::2], rest[1::2], strict=True)}}


def parameters(text: str) -> dict[str, str]:
    """A section of parameters by their names: the type, and the words below it."""
    entries = re.split(r"^(\w+) : ", text, flags=re.M)[1:]
    return dict(zip(entries[::2], (entry.rstrip() for entry in entries[1::2]), strict=True))


def papers(source: str) -> str:
    """The papers that a source names, numbered and in full; the source itself where none of them is known."""
    named = sorted((source.replace(" and ", " & ").find(name), name) for name in PAPERS)
    known = [name for place, name in named if place >= 0]
    if not known:
        return "" if source.startswith("ours") else source
    return "\n".join(f".. [{i}] {name}. {PAPERS[name]}." for i, name in enumerate(known, start=1))


class Documented:
    """A class whose subclasses' docstrings are completed when they are defined."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        complete(cls)


def complete(kind: type, shared: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write into a class's docstring its defaults, conventions and paper, and the parameters and notes that it inherits.

    shared: what parameters mean where a class documents nothing else. May be called again once more is known of the class.
    """
    own = vars(kind).get("_written") or vars(kind).get("__doc__")
    if not own:
        return
    parts = sections(inspect.cleandoc(own))
    given: dict[str, str] = {}
    for base in reversed(kind.__mro__[1:]):
        given |= vars(base).get("_parameters", {})
    given |= parameters(parts.get("Parameters", ""))
    given |= {name: shared[name] for name in inspect.get_annotations(kind) if name in shared and name not in given}
    inherited = [note for base in kind.__mro__[1:] if (note := vars(base).get("_notes"))]
    profiles = getattr(kind, "profiles", ())
    conventions: Mapping[str, str] = getattr(kind, "conventions", {})
    clauses = [f"Profile {name!r}: {clause}." for name, clause in conventions.items() if name in profiles]
    notes = "\n\n".join(filter(None, [parts.get("Notes", ""), *dict.fromkeys(inherited), "\n".join(clauses)]))
    kind._parameters, kind._notes, kind._written = given, parts.get("Notes", ""), own  # type: ignore[attr-defined]
    lines = []
    for name, entry in given.items():
        declared, _, words = entry.partition("\n")
        if hasattr(kind, name) and not isinstance(getattr(kind, name), dataclasses.Field):
            declared = f"{declared.partition(', default ')[0]}, default {getattr(kind, name)!r}"
        lines.append(f"{name} : {declared}\n{words}")
    source: str = getattr(kind, "reference", "") or getattr(kind, "source", "")
    own_paper = parts.get("References", papers(source))
    full = {"": parts[""], "Parameters": "\n".join(lines), "Notes": notes, "References": own_paper}
    kind.__doc__ = "\n\n".join(f"{h}\n{'-' * len(h)}\n{text}" if h else text for h, text in full.items() if text)
