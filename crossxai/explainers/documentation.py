"""What the docstring of an explainer says beside its own words: parameters that it inherits, and the papers in full."""

from __future__ import annotations

import inspect
import re

SECTION = re.compile(r"^(Parameters|Notes|References)\n-+\n", re.M)
PAPERS = {
    "Abnar & Zuidema 2020": "Quantifying Attention Flow in Transformers. ACL. arXiv:2005.00928",
    "Adebayo et al. 2018": "Sanity Checks for Saliency Maps. NeurIPS. arXiv:1810.03292",
    "Bach et al. 2015": "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance "
    "Propagation. PLOS ONE 10(7)",
    "Cai 2025": "CAMs as Shapley Value-based Explainers. arXiv:2501.06261",
    "Castro et al. 2009": "Polynomial calculation of the Shapley value based on sampling. Computers & Operations Research 36(5)",
    "Chattopadhyay et al. 2018": "Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks. arXiv:1710.11063",
    "Chefer, Gur & Wolf 2021": "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder "
    "Transformers. ICCV. arXiv:2103.15679",
    "Desai & Ramaswamy 2020": "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free "
    "Localization. WACV",
    "Draelos & Carin 2020": "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks. "
    "arXiv:2011.08891",
    "Fel et al. 2021": "Look at the Variance! Efficient Black-box Explanations with Sobol-based Sensitivity Analysis. NeurIPS. "
    "arXiv:2111.04138",
    "Fisher et al. 2019": "All Models are Wrong, but Many are Useful. JMLR 20(177). arXiv:1801.01489",
    "Fu et al. 2020": "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs. BMVC. arXiv:2008.02312",
    "Fuad et al. 2020": "Features Understanding in 3D CNNs for Actions Recognition in Video. IPTA",
    "Gildenblat 2021": "PyTorch library for CAM methods. https://github.com/jacobgil/pytorch-grad-cam",
    "Hooker et al. 2019": "A Benchmark for Interpretability Methods in Deep Neural Networks. NeurIPS. arXiv:1806.10758",
    "Jiang et al. 2021": "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization. IEEE TIP 30",
    "Karmani et al. 2024": "KPCA-CAM: Visual Explainability of Deep Computer Vision Models using Kernel PCA. arXiv:2410.00267",
    "Kokhlikyan et al. 2020": "Captum: A unified and generic model interpretability library for PyTorch. arXiv:2009.07896",
    "Lundberg & Lee 2017": "A Unified Approach to Interpreting Model Predictions. NeurIPS. arXiv:1705.07874",
    "Muhammad & Yeasin 2020": "Eigen-CAM: Class Activation Map using Principal Components. IJCNN. arXiv:2008.00299",
    "Muzellec et al. 2023": "Gradient strikes back: How filtering out high frequencies improves explanations. arXiv:2307.09591",
    "Novello et al. 2022": "Making Sense of Dependence: Efficient Black-box Explanations Using Dependence Measure. NeurIPS. "
    "arXiv:2206.06219",
    "Petsiuk et al. 2018": "RISE: Randomized Input Sampling for Explanation of Black-box Models. BMVC. arXiv:1806.07421",
    "Ribeiro et al. 2016": '"Why Should I Trust You?": Explaining the Predictions of Any Classifier. KDD. arXiv:1602.04938',
    "Selvaraju et al. 2017": "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization. ICCV. "
    "arXiv:1610.02391",
    "Shapley 1953": "A Value for n-Person Games. Contributions to the Theory of Games II",
    "Shrikumar et al. 2016": "Not Just a Black Box: Learning Important Features Through Propagating Activation Differences. "
    "arXiv:1605.01713",
    "Shrikumar et al. 2017": "Learning Important Features Through Propagating Activation Differences. ICML. arXiv:1704.02685",
    "Simonyan et al. 2013": "Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps. "
    "arXiv:1312.6034",
    "Smilkov et al. 2017": "SmoothGrad: removing noise by adding noise. arXiv:1706.03825",
    "Springenberg et al. 2014": "Striving for Simplicity: The All Convolutional Net. arXiv:1412.6806",
    "Srinivas & Fleuret 2019": "Full-Gradient Representation for Neural Network Visualization. NeurIPS. arXiv:1905.00780",
    "Sundararajan et al. 2017": "Axiomatic Attribution for Deep Networks. ICML. arXiv:1703.01365",
    "Tursun et al. 2022": "SESS: Saliency Enhancing with Scaling and Sliding. ECCV. arXiv:2207.01769",
    "Wang et al. 2020": "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks. CVPR Workshops. "
    "arXiv:1910.01279",
    "Zhang et al. 2025": "Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation. arXiv:2501.11309",
    "Zeiler & Fergus 2014": "Visualizing and Understanding Convolutional Networks. ECCV. arXiv:1311.2901",
}
"""The papers by the short names that classes give as their `reference`, where title and place are known for certain."""


def sections(doc: str) -> dict[str, str]:
    """A numpydoc docstring by its headings; what comes before the first is under ""."""
    first, *rest = SECTION.split(doc)
    return {"": first.strip(), **{name: text.strip() for name, text in zip(rest[::2], rest[1::2], strict=True)}}


def parameters(text: str) -> dict[str, str]:
    """A section of parameters by their names: the type, and the words below it."""
    entries = re.split(r"^(\w+) : ", text, flags=re.M)[1:]
    return dict(zip(entries[::2], (entry.rstrip() for entry in entries[1::2]), strict=True))


def complete(kind: type) -> None:
    """Write into a class's docstring its defaults, conventions and paper, and the parameters and notes that it inherits."""
    own = vars(kind).get("__doc__")
    if not own:
        return
    parts = sections(inspect.cleandoc(own))
    given: dict[str, str] = {}
    for base in reversed(kind.__mro__[1:]):
        given |= vars(base).get("_parameters", {})
    given |= parameters(parts.get("Parameters", ""))
    inherited = [note for base in kind.__mro__[1:] if (note := vars(base).get("_notes"))]
    profiles = getattr(kind, "profiles", ())
    clauses = [f"Profile {name!r}: {clause}." for name, clause in kind.conventions.items() if name in profiles]  # type: ignore[attr-defined]
    notes = "\n\n".join(filter(None, [parts.get("Notes", ""), *dict.fromkeys(inherited), "\n".join(clauses)]))
    kind._parameters, kind._notes = given, parts.get("Notes", "")  # type: ignore[attr-defined]
    lines = []
    for name, entry in given.items():
        declared, _, words = entry.partition("\n")
        default = f", default {getattr(kind, name)!r}" if hasattr(kind, name) else ""
        lines.append(f"{name} : {declared.partition(', default ')[0]}{default}\n{words}")
    name = getattr(kind, "reference", "")
    paper = f".. [1] {name}. {PAPERS[name]}." if name in PAPERS else name
    own_paper = parts.get("References", paper)
    full = {"": parts[""], "Parameters": "\n".join(lines), "Notes": notes, "References": own_paper}
    kind.__doc__ = "\n\n".join(f"{h}\n{'-' * len(h)}\n{text}" if h else text for h, text in full.items() if text)
