"""Which Keras layers and which of keras.ops have a translation, and which one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from crossxai.porting.from_keras_layers import (
    avg_pool,
    batch_norm,
    conv,
    conv_transpose,
    dense,
    depthwise,
    exact_leaky_relu,
    global_pool,
    max_pool,
    normalization,
    relu,
    rescaling,
    separable,
    standardise,
    upsample,
    zero_pad,
)
from crossxai.porting.from_keras_ops import (
    Ref,
    arithmetic,
    concatenate,
    get_item,
    identity,
    merge,
    negative,
    over_space,
    pad,
    permute,
    plain,
    reshape,
    softmax,
)
from crossxai.porting.keras_layers import BilinearUpSampling2D, ExactLeakyReLU, Standardise

Translation = Callable[..., Ref]
_K = keras.layers
LAYERS: dict[Any, Translation] = {
    _K.Conv2D: conv, _K.DepthwiseConv2D: depthwise, _K.SeparableConv2D: separable, _K.Conv2DTranspose: conv_transpose,
    _K.Dense: dense, _K.BatchNormalization: batch_norm, _K.ReLU: relu, _K.Softmax: softmax,
    _K.LeakyReLU: partial(plain, "leaky_relu"), ExactLeakyReLU: exact_leaky_relu, _K.ELU: partial(plain, "elu"),
    _K.Activation: lambda c, layer, x: c.activated(c.check(x, 2, 3, 4), layer.activation),
    _K.MaxPooling2D: max_pool, _K.AveragePooling2D: avg_pool,
    _K.GlobalAveragePooling2D: partial(global_pool, "avg"), _K.GlobalMaxPooling2D: partial(global_pool, "max"),
    _K.ZeroPadding2D: partial(zero_pad, 1), _K.Cropping2D: partial(zero_pad, -1),
    _K.UpSampling2D: upsample, BilinearUpSampling2D: upsample, _K.Concatenate: concatenate,
    _K.Add: partial(merge, "add"), _K.Subtract: partial(merge, "subtract"), _K.Multiply: partial(merge, "multiply"),
    _K.Rescaling: rescaling, _K.Normalization: normalization, Standardise: standardise,
    _K.Permute: permute, _K.Flatten: reshape, _K.Reshape: reshape,
    **dict.fromkeys((_K.Identity, _K.Dropout, _K.SpatialDropout2D, _K.GaussianNoise, _K.GaussianDropout,
                     _K.AlphaDropout, _K.ActivityRegularization), identity),
}  # fmt: skip
"""Layers whose `call` is this one's; the rest is opened, if it is not Keras's own."""

OPERATIONS: dict[str, Translation] = {
    "Relu": partial(plain, "relu"), "Relu6": partial(plain, "relu6"), "Sigmoid": partial(plain, "sigmoid"),
    "Tanh": partial(plain, "tanh"), "Softplus": partial(plain, "softplus"), "Silu": partial(plain, "silu"),
    "LeakyRelu": partial(plain, "leaky_relu"), "Elu": partial(plain, "elu"), "Gelu": partial(plain, "gelu"),
    "Softmax": softmax, "Add": partial(arithmetic, "add"), "Subtract": partial(arithmetic, "subtract"),
    "Multiply": partial(arithmetic, "multiply"), "Divide": partial(arithmetic, "divide"),
    "TrueDivide": partial(arithmetic, "divide"), "Negative": negative, "Concatenate": concatenate, "Pad": pad,
    "Mean": partial(over_space, "avg"), "Max": partial(over_space, "max"), "Amax": partial(over_space, "max"),
    **dict.fromkeys(("Reshape", "ExpandDims", "Squeeze"), reshape), "GetItem": get_item,
    **dict.fromkeys(("Cast", "ConvertToTensor", "Identity"), identity),
}  # fmt: skip
"""keras.ops by the name of their class: the classes themselves are not public."""
