"""One small member of every family of published networks, and the project's own, with random weights and batch-norm statistics,
for porting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from crossxai import Modality
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.model import Inputs
from crossxai.studies.networks import keras_networks, torch_networks
from networks.volumes import UNet

TORCHVISION = {
    "alexnet": 64, "vgg11": 32, "squeezenet1_1": 64, "resnet18": 64, "resnet50": 64, "resnext50_32x4d": 64, "wide_resnet50_2": 64,
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
SEGMENTATION = {"fcn_resnet50": 64, "deeplabv3_resnet50": 64, "deeplabv3_mobilenet_v3_large": 64}
"""torchvision's, which return a dictionary."""
FUSION = dict.fromkeys(torch_networks.ARCHITECTURES, 32)
"""The project's own, of two inputs."""
KERAS_FUSION = {f"keras:{name}": size for name, size in FUSION.items()}
"""The same, written in Keras."""
VOLUMES = {"monai_unet_3d": 16, "monai_unet_2d": 32}
LAYERS = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear
EVERY = TORCHVISION | SEGMENTATION | TIMM | FUSION | VOLUMES | APPLICATIONS | KERAS_FUSION


def lively(net: nn.Module, seed: int = 0, gain: float = 0.0) -> nn.Module:
    """Norms far from doing nothing, and scales of layers large enough that every branch counts; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    smooth = any(isinstance(module, nn.SiLU | nn.Hardswish) for module in net.modules())
    for name, module in net.named_modules():
        if isinstance(module, LAYERS):  # as large a signal at the end as at the start, and gates half open
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
    for module in net.modules():
        if isinstance(module, nn.PReLU):  # not nearly the identity
            module.weight.data.uniform_(0.1, 0.4, generator=generator)
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
    if name in SEGMENTATION:
        make = getattr(torchvision.models.segmentation, name)
        return lively(make(weights=None, weights_backbone=None, num_classes=5))
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


def pictures(size: int, dimensions: int = 2, channels: int = 3) -> np.ndarray:
    """A dark picture of large spots and a bright one of small ones, with a little noise: outputs vary, as they do between
    photographs, and no max-pool sees values that are equal but for rounding, which would choose one of them."""
    rng = np.random.default_rng(0)
    spots = []
    for n in (4, 16):
        spot = rng.random((*[n] * dimensions, channels))
        for axis in range(dimensions):
            spot = spot.repeat(-(-size // n), axis)
        spots.append(0.9 * spot[(slice(size),) * dimensions] + 0.1 * rng.random((*[size] * dimensions, channels)))
    return np.stack([0.4 * spots[0], 0.5 + 0.5 * spots[1]])


def model(name: str, dtype: str) -> tuple[TorchModel | KerasModel, Inputs]:
    """A network behind its adapter, and two samples for it."""
    size = EVERY[name]
    if name in APPLICATIONS:
        values = (255 * pictures(size)).astype(dtype)
        return KerasModel(application(name, dtype), (Modality.image(range=(0, 255)),), name=name), (values,)
    modalities: tuple[Modality, ...] = (Modality.image(),)
    inputs: Inputs = (pictures(size),)
    options: dict[str, Any] = {}
    if name in FUSION or name in KERAS_FUSION:
        modalities, inputs = fused(name.removeprefix("keras:"))
        options = {"output_axes": ("y", "x", "class")} if "unet" in name else {}
        if name in KERAS_FUSION:
            made = lively_keras(keras_networks.fusion_network(name.removeprefix("keras:"), size, dtype))
            return KerasModel(made, modalities, name=name, **options), tuple(v.astype(dtype) for v in inputs)
        net = lively(torch_networks.fusion_network(name, seed=0))
    elif name in VOLUMES:
        torch.manual_seed(0)
        n = 3 if name.endswith("3d") else 2
        net = lively(UNet(1, 2, channels=(8, 16, 32), strides=(2, 2), n=n))
        modalities = (Modality.volume() if n == 3 else Modality.image("scan", ("intensity",)),)
        inputs = (pictures(size, dimensions=n, channels=1),)
        options = {"output_axes": ("z", "y", "x", "class")[3 - n :]}
    else:
        net = timm_network(name) if name in TIMM else torchvision_network(name)
        options = {"output": "out", "output_axes": ("y", "x", "class")} if name in SEGMENTATION else {}
    net = net.to(getattr(torch, dtype))
    return TorchModel(net, modalities, name=name, **options), tuple(values.astype(dtype) for values in inputs)


def fused(name: str) -> tuple[tuple[Modality, ...], Inputs]:
    """The inputs of a fusion network: two images, the second one of the samples in the other order, or an image and a table."""
    grey, names = (
        pictures(FUSION[name], channels=1),
        {"fusion_regressor": ("t1", "t2"), "fusion_unet": ("flair", "t1ce")},
    )
    if name in names:
        one, other = (Modality.image(each, ("intensity",)) for each in names[name])
        return (one, other), (grey, grey[::-1].copy())
    table = Modality.table(tuple(f"feature {i}" for i in range(12)))
    return (Modality.image("ct", ("intensity",)), table), (grey, np.random.default_rng(1).normal(size=(2, 12)))
