"""A network of torchvision and eight photographs: table, figure and page."""

import skimage.data as photographs

import crossxai as xai

names = ["astronaut", "cat", "coffee", "rocket", "retina", "hubble_deep_field", "immunohistochemistry", "colorwheel"]
model = xai.wrap("torchvision:mobilenet_v3_small@random", size=96)  # without @random: trained on ImageNet, at full size
images = [getattr(photographs, name)() for name in names]
explainers = ["captum.saliency", "captum.integrated_gradients", "gradcam.gradcam", ("lime.image", {"samples": 100})]
run = xai.compare(model, images, explainers=explainers, metrics=[("deletion", {"steps": 12})], out="out/photographs")
print(run.summary, run.findings, sep="\n")
run.plot("grid").savefig(run.folder / "maps.png")
