"""One small member of every family of published classifiers, with random weights and batch-norm statistics, for porting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

TORCHVISION = {
    "alexnet": 64, "vgg11": 32, "squeezenet1_1": 64, "resnet18": 64, "resnext50_32x4d": 64, "wide_resnet50_2": 64,
    "regnet_y_400mf": 64, "densenet121": 64, "googlenet": 64, "inception_v3": 96, "mobilenet_v2": 64,
    "mobilenet_v3_small": 64, "mnasnet0_5": 64, "shufflenet_v2_x0_5": 64, "efficientnet_b0": 64, "efficientnet_v2_s": 64,
    "convnext_tiny": 64, "vit_b_16": 64, "swin_t": 64, "swin_v2_t": 64, "maxvit_t": 224,
}  # fmt: skip
"""Name -> the size of the images it is measured on."""
APPLICATIONS = {
    "VGG16": 32, "ResNet50": 64, "ResNet50V2": 64, "InceptionV3": 96, "InceptionResNetV2": 96, "Xception": 96,
    "MobileNet": 64, "MobileNetV2": 64, "MobileNetV3Small": 64, "DenseNet121": 64, "NASNetMobile": 64,
    "EfficientNetB0": 64, "EfficientNetV2B0": 64, "ConvNeXtTiny": 64,
}  # fmt: skip
TIMM = {
    "vit_tiny_patch16_224": 64, "convnext_atto": 64, "resnet10t": 64, "deit_tiny_patch16_224": 64, "mixer_s32_224": 64,
    "swin_tiny_patch4_window7_224": 224, "efficientnet_lite0": 64, "mobilenetv4_conv_small": 64, "poolformer_s12": 64,
    "regnetx_002": 64, "ghostnet_100": 64, "resmlp_12_224": 224,
}  # fmt: skip


def lively(net: nn.Module, seed: int = 0, gain: float = 0.0) -> nn.Module:
    """Norms far from doing nothing, and scales of layers large enough that every branch counts; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    smooth = any(isinstance(module, nn.SiLU | nn.Hardswish) for module in net.modules())
    for name, module in net.named_modules():
        if isinstance(
            module, nn.Conv2d | nn.Linear
        ):  # as large a signal at the end as at the start, and gates half open
            gate = isinstance(module, nn.Conv2d) and any(
                part in name for part in (".fc1", ".fc2", ".se.", "_reduce", "_expand")
            )
            size = 0.1 if gate else gain or (1.6 if smooth else 1.2)
            module.weight.data.normal_(0, (size / module.weight[0].numel()) ** 0.5, generator=generator)
    for name, parameter in net.named_parameters():
        if "gamma" in name or "layer_scale" in name or name.endswith(".ls1") or name.endswith(".ls2"):
            parameter.data.uniform_(0.2, 0.6, generator=generator)
        elif parameter.ndim <= 1:
            middle = 1.0 if name.endswith("weight") else 0.0
            parameter.data.copy_(middle + 0.3 * (2 * torch.rand(parameter.shape, generator=generator) - 1))
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.3, 1.2, generator=generator)
    return net.eval()


def lively_keras(model: Any, seed: int = 0, gain: float = 1.2) -> Any:
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape, path = tuple(weight.shape), weight.path
        if "variance" in path:
            weight.assign(rng.uniform(0.3, 1.2, shape))
        elif "layer_scale" in path:
            weight.assign(rng.uniform(0.2, 0.6, shape))
        elif "kernel" in path and len(shape) > 1:  # of a depthwise one, each channel has its own
            fan = np.prod(shape[:-2] if shape[-1] == 1 or "depthwise" in path else shape[:-1])
            weight.assign(rng.normal(0, (gain / fan) ** 0.5, shape))
        elif len(shape) <= 1 and not path.startswith("normalization"):
            weight.assign((1.0 if "gamma" in path else 0.0) + rng.uniform(-0.3, 0.3, shape))
    return model


def torchvision_network(name: str) -> nn.Module:
    import torchvision

    torch.manual_seed(0)
    size = {"image_size": TORCHVISION[name]} if name.startswith("vit") else {}
    inits = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    # Its activations would grow to 1e8, where TensorFlow's float32 kernels are wrong by more than rounding.
    gain = 1.2 if name == "efficientnet_v2_s" else 0.0
    return lively(getattr(torchvision.models, name)(num_classes=10, **size, **inits), gain=gain)


def timm_network(name: str) -> nn.Module:
    import timm

    torch.manual_seed(0)
    size = {"img_size": TIMM[name]} if any(kind in name for kind in ("vit", "deit", "mixer", "resmlp", "swin")) else {}
    return lively(timm.create_model(name, num_classes=10, **size))


def application(name: str, dtype: str = "float32") -> Any:
    import keras

    size, before = APPLICATIONS[name], keras.config.floatx()
    keras.utils.set_random_seed(0)
    keras.config.set_floatx(dtype)  # the policy alone would leave the inputs in float32
    keras.config.set_dtype_policy(dtype)
    try:
        make: Callable[..., Any] = getattr(keras.applications, name)
        made = make(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)
        return lively_keras(made, gain=1.8 if name == "EfficientNetB0" else 1.2)  # else its outputs hardly vary
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(before)
