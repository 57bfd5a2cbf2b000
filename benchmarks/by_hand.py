"""What `first_report.py` counts and times beside one command: the same maps and deletion with Captum and Quantus alone."""

import sys
from pathlib import Path

import torch
import torch._dynamo  # first, with triton: TensorFlow, which Quantus imports, ends the process where they come after it

# isort: split
import matplotlib
import numpy as np
import pandas as pd
import quantus
import torchvision
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Saliency
from PIL import Image, ImageOps

matplotlib.use("agg")
from matplotlib import pyplot as plt

folder, weights, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
table = pd.read_csv(folder / "labels.csv")
net = torchvision.models.mobilenet_v3_small(num_classes=4)
net.load_state_dict(torch.load(weights, weights_only=True))
net.eval()
cut = torchvision.transforms.Compose([torchvision.transforms.Resize(size), torchvision.transforms.CenterCrop(size)])
pictures = [cut(ImageOps.exif_transpose(Image.open(folder / name)).convert("RGB")) for name in table["file"]]
images = np.stack([np.asarray(picture, np.float32).transpose(2, 0, 1) / 255 for picture in pictures])
mean, sd = np.reshape([0.485, 0.456, 0.406], (3, 1, 1)), np.reshape([0.229, 0.224, 0.225], (3, 1, 1))
x = torch.from_numpy(((images - mean) / sd).astype(np.float32))
y = net(x).argmax(1)
cam = LayerGradCam(net, net.features[-1]).attribute(x, y, relu_attributions=True)
maps = {
    "saliency": Saliency(net).attribute(x, y).abs().sum(1),
    "integrated gradients": IntegratedGradients(net).attribute(x, target=y, internal_batch_size=64).sum(1),
    "Grad-CAM": LayerAttribution.interpolate(cam, (size, size), "bilinear")[:, 0],
    "random": torch.from_numpy(np.random.default_rng(0).random(x.shape[:1] + x.shape[2:])),
}
maps = {name: values.detach().numpy().astype(np.float32)[:, None] for name, values in maps.items()}
flips = quantus.PixelFlipping(features_in_step=size * size // 16, perturb_baseline="black", abs=False, normalise=False)
curves = {name: flips(net, x.numpy(), y.numpy(), a_batch=values, softmax=True) for name, values in maps.items()}
scores = {name: np.trapezoid(curve, dx=1 / 16, axis=1) for name, curve in curves.items()}  # its own area needs NumPy 1
print(pd.DataFrame(scores, index=table["file"]).describe().loc[["mean", "std"]])
figure, axes = plt.subplots(
    len(maps) + 1, len(images), figsize=(1.5 * len(images), 1.5 * len(maps) + 1.5), squeeze=False
)
for row, (name, values) in zip(axes, {"input": images.transpose(0, 2, 3, 1), **maps}.items(), strict=True):
    for panel, value in zip(row, values, strict=True):
        panel.imshow(value if name == "input" else value[0])
        panel.set_axis_off()
figure.savefig("maps.png")
