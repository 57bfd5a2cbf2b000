"""The conventions: each choice that libraries make differently, its options, and where it acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Option = str | float | int
Setting = Mapping[str, Option]
"""Convention name -> option: everything that decides a map."""
Stage = Literal["model", "method", "map"]


@dataclass(frozen=True)
class Convention:
    """One choice.

    Parameters
    ----------
    name : str
        Such as "channels".
    stage : {"model", "method", "map"}
        Whether it acts on what the model is given and asked for, on how the method works, or on the finished array.
    about : str
        What is chosen, as half a sentence: "how a map is reduced over channels".
    options : mapping
        Option -> what it does, as a clause. Empty for a number, which speaks for itself.
    candidates : tuple of numbers
        Of a number: the values that a search tries.
    resized : tuple
        Options that mean something only for methods that enlarge a map.
    near : bool
        Of a count: whether a search tries one more and one less, too, since points and intervals are counted differently.
    clause : str
        How an option that is not listed reads, with {} for it.
    """

    name: str
    stage: Stage
    about: str
    options: Mapping[Option, str]
    candidates: tuple[Option, ...] = ()
    resized: tuple[Option, ...] = ()
    near: bool = False
    clause: str = ""

    def choices(self, setting: Setting) -> tuple[Option, ...]:
        """What a search may set it to, in a setting of one method."""
        own = setting.get(self.name)
        beside = (own - 1, own + 1) if self.near and isinstance(own, int) and own > 2 else ()
        every = dict.fromkeys((*(self.candidates or self.options), *beside))
        return tuple(option for option in every if "resize" in setting or option not in self.resized)

    def words(self, option: Option) -> str:
        """An option as a clause."""
        if option in self.options:
            return self.options[option]
        shown = f"{option:g}" if isinstance(option, int | float) else option
        return self.clause.format(shown) if self.clause else f"{self.name} = {shown}"


CONVENTIONS: dict[str, Convention] = {
    c.name: c
    for c in (
        Convention(
            "score",
            "model",
            "which score is explained",
            {
                "logit": "the logit",
                "probability": "the probability",
                "log_probability": "the logarithm of the probability",
                "doubled_softmax": "a softmax of the probabilities, one softmax too many",
            },
        ),
        Convention(
            "target",
            "model",
            "which class is explained",
            {
                "given": "the class that was asked for",
                "next": "the class after the one that was asked for, an index off by one",
                "previous": "the class before the one that was asked for, an index off by one",
                "predicted": "the predicted class",
            },
        ),
        Convention(
            "channel_order",
            "model",
            "the order of an image's colours",
            {"rgb": "red, green, blue", "bgr": "blue, green, red"},
        ),
        Convention(
            "input_scale",
            "model",
            "the range of the values that the model is given",
            {"declared": "the declared range", "255": "values 255 times as large"},
        ),
        Convention(
            "layout",
            "model",
            "how an image lies in the array that the model is given",
            {
                "declared": "as declared",
                "reshaped": "channels last reshaped to channels first, without moving an axis",
                "unshaped": "channels first reshaped to channels last, without moving an axis",
                "swapped": "height and width swapped",
            },
        ),
        Convention(
            "dtype",
            "model",
            "what the inputs were rounded to on the way",
            {
                "float32": "no rounding",
                "float16": "half precision",
                "uint8": "256 steps, cut off to whole ones",
            },
        ),
        Convention(
            "quadrature",
            "method",
            "the rule that integrates along the path",
            {
                "trapezoid": "the trapezoid rule, whose weights sum to 1",
                "riemann_trapezoid": "Captum's riemann_trapezoid, whose weights sum to (n - 1)/n",
                "gausslegendre": "Gauss-Legendre",
                "riemann_left": "the left ends of n intervals",
                "riemann_right": "the right ends of n intervals",
                "riemann_middle": "the middles of n intervals",
            },
        ),
        Convention("steps", "method", "how many points the path has", {}, (10, 20, 25, 32, 50, 64, 100, 200), near=True),
        Convention("baseline", "method", "what hidden entries are filled with", {}, (0.0, 0.5, 1.0)),
        Convention(
            "baseline_units",
            "method",
            "the units of the value that hidden entries are filled with",
            {
                "raw": "units of the raw input",
                "standardised": "units of the standardised input, whose 0 is the mean",
                "range": "shares of the declared range in colour images, 0 in others",
            },
        ),
        Convention(
            "multiplied",
            "method",
            "whether the gradient is multiplied by the input",
            {"yes": "multiplied by the input", "no": "the gradient alone"},
        ),
        Convention(
            "noisy",
            "method",
            "what is averaged under noise",
            {"signed": "signed gradients", "absolute": "absolute gradients", "squared": "squared gradients"},
        ),
        Convention(
            "draws",
            "method",
            "where random numbers come from",
            {
                "shared": "the draws that all libraries share",
                "torch": "torch's generator",
                "captum": "Captum's draws",
                "lime": "lime's draws",
                "xplique": "Xplique's draws",
            },
        ),
        Convention("seed", "method", "the seed of the draws", {}, (0, 1, 2, 42)),
        Convention("samples", "method", "how many random copies there are", {}, (5, 10, 20, 25, 50, 100)),
        Convention("sd", "method", "the standard deviation of the noise", {}, (0.05, 0.1, 0.15, 0.2, 0.5, 1.0)),
        Convention("layer", "method", "which layer the map is drawn at", {}, clause="a map drawn at `{}`"),
        Convention(
            "spread",
            "method",
            "what the standard deviation of the noise is a share of",
            {"declared": "the declared range", "image": "the range of each image's own values"},
        ),
        Convention(
            "space",
            "method",
            "how Grad-CAM++ adds up over places",
            {"sum": "sums over space", "mean": "means over space"},
        ),
        Convention("epsilon", "method", "what is added to a denominator", {}, (0.0, 1e-6)),
        Convention(
            "overlap",
            "method",
            "what happens where windows overlap",
            {"averaged": "overlapping windows averaged", "summed": "overlapping windows summed"},
        ),
        Convention(
            "border",
            "method",
            "what happens at the border",
            {"covered": "a clipped window at the border", "left": "whole windows alone, an uncovered border left at 0"},
        ),
        Convention(
            "fill",
            "method",
            "what hidden groups are filled with",
            {"value": "one value", "segment_mean": "the group's own mean"},
        ),
        Convention(
            "distance",
            "method",
            "how far a copy counts as away",
            {
                "binary_cosine": "cosine distance of the binary samples",
                "input_cosine": "cosine distance of the inputs",
                "euclidean": "Euclidean distance of the inputs, in widths of the declared range",
            },
        ),
        Convention(
            "kernel",
            "method",
            "how distance becomes a weight",
            {"half": "exp(-d² / 2w²)", "whole": "exp(-d² / w²)"},
        ),
        Convention("width", "method", "the width of the kernel", {}, (0.25, 1.0, 45.0)),
        Convention(
            "regressor",
            "method",
            "what is fitted to the scores",
            {"ridge": "ridge regression", "lasso": "the lasso"},
        ),
        Convention("penalty", "method", "how strongly the fit is regularised", {}, (0.01, 1.0, 2.0)),
        Convention(
            "ends",
            "method",
            "how the values are tied to the scores of everything and of nothing",
            {
                "constraints": "both hold exactly",
                "heavy": "both weigh 1e6",
                "free": "neither is scored",
            },
        ),
        Convention("keep", "method", "how likely a cell of a mask is shown", {}, (0.3, 0.5, 0.7)),
        Convention(
            "crop",
            "method",
            "how masks are placed",
            {"each": "every mask at a place of its own", "batch": "one place for every 32 masks"},
        ),
        Convention(
            "normaliser",
            "method",
            "what the sum of masks is divided by",
            {"expected": "the number of masks times their mean", "masks": "the sum of the masks at each pixel"},
        ),
        Convention(
            "activations",
            "method",
            "how activations pass contributions on",
            {
                "rescale": "by the Rescale rule",
                "gradient": "by the plain gradient, as where no hook reaches an activation: the map is input × gradient",
            },
        ),
        Convention(
            "pools",
            "method",
            "how max-pools and a softmax pass contributions on",
            {
                "mended": "so that contributions add up",
                "captum": "as Captum has it: the plain gradient directly after an activation, one of overlapping windows",
            },
        ),
        Convention(
            "magnitude",
            "map",
            "whether the sign counts",
            {"signed": "signed values", "absolute": "absolute values"},
        ),
        Convention(
            "channels",
            "map",
            "how a map is reduced over channels",
            {
                "each": "one value per channel",
                "sum": "summed over channels",
                "mean": "mean over channels",
                "largest": "the largest over channels",
                "norm": "the L2 norm over channels",
            },
        ),
        Convention(
            "relu",
            "map",
            "whether negative values are cut off",
            {"none": "negative values stay", "before": "negative values cut off before the resize",
             "after": "negative values cut off after the resize"},
        ),
        Convention(
            "resize",
            "map",
            "how a small map is enlarged",
            {
                "none": "the layer's own grid",
                "nearest": "nearest neighbour",
                "bilinear": "bilinear with half-pixel centres",
                "corners": "bilinear with aligned corners",
                "bicubic": "TensorFlow's bicubic (a = -0.5)",
                "bicubic_torch": "torch's bicubic (a = -0.75)",
            },
        ),
        Convention(
            "rescale",
            "map",
            "how a map is scaled",
            {
                "none": "no rescale",
                "once": "rescaled to [0, 1] once",
                "twice": "rescaled to [0, 1] before and after the resize",
                "largest": "divided by its largest absolute value",
            },
            resized=("twice",),
        ),
        Convention("rescale_epsilon", "map", "what is added to the range that a map is divided by", {}, (0.0, 1e-7)),
        Convention("sign", "map", "whether the map is turned round", {"kept": "as it is", "negated": "negated"}),
    )
}  # fmt: skip
"""Every convention, by name."""


def convention(name: str) -> Convention:
    """A convention by name; a plain parameter, such as a patch's size, speaks for itself."""
    return CONVENTIONS.get(name) or Convention(name, "method", f"the {name}", {})


MODEL = {
    "score": "logit", "target": "given", "channel_order": "rgb", "input_scale": "declared", "layout": "declared",
    "dtype": "float32",
}  # fmt: skip
"""What every method shares."""
PLAIN: Setting = {"sign": "kept", "rescale": "none", "rescale_epsilon": 1e-7}
FILLED: Setting = {"baseline": 0.0, "baseline_units": "raw"}
GRADIENT: Setting = {**MODEL, **PLAIN, "magnitude": "signed", "channels": "sum"}
CAM: Setting = {**MODEL, **PLAIN, "layer": "", "relu": "before", "resize": "bilinear"}
"""layer: "" is the one that a comparison draws at, the last with space if it names none; a search tries the model's others."""

CANONICAL: dict[str, Setting] = {
    "saliency": {**GRADIENT, "magnitude": "absolute", "channels": "largest", "multiplied": "no"},
    "gradient_x_input": {**GRADIENT, "multiplied": "yes"},
    "integrated_gradients": {
        **GRADIENT, "quadrature": "trapezoid", "steps": 50, **FILLED, "multiplied": "yes",
    },
    "smooth_grad": {
        **GRADIENT, "noisy": "signed", "draws": "shared", "seed": 0, "samples": 50, "sd": 0.15, "spread": "declared",
        "multiplied": "no",
    },
    "gradcam": CAM,
    "gradcam_plus_plus": {**CAM, "space": "sum", "epsilon": 0.0},
    "occlusion": {
        **MODEL, **PLAIN, "patch": 16, "stride": 8, **FILLED, "overlap": "averaged", "border": "covered",
    },
    "rise": {
        **MODEL, **PLAIN, "samples": 300, "grid": 7, "keep": 0.5, **FILLED, "draws": "shared", "seed": 0,
        "crop": "each", "normaliser": "expected",
    },
    "guided_backprop": GRADIENT,
    "deep_lift": {**GRADIENT, **FILLED, "activations": "rescale", "pools": "mended"},
    "lime": {
        **MODEL, **PLAIN, "segmentation": "grid", "patch": 16, "samples": 200, "draws": "shared", "seed": 0, **FILLED,
        "fill": "value", "distance": "binary_cosine", "kernel": "half", "width": 0.25, "regressor": "ridge", "penalty": 1.0,
    },
    "kernel_shap": {
        **MODEL, **PLAIN, "segmentation": "grid", "patch": 16, "samples": 200, "draws": "shared", "seed": 0, **FILLED,
        "fill": "value", "ends": "constraints",
    },
}  # fmt: skip
"""Method -> the setting on which libraries meet; its keys are the conventions that the method has."""
