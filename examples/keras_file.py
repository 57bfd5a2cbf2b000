"""A `.keras` file and the pictures it never saw: table, figure and page. First: `python examples/train_faces.py`."""

from skimage.data import lfw_subset

import crossxai as xai

images, labels = [*lfw_subset()[:48:4, ..., None], *lfw_subset()[100:148:4, ..., None]], [1] * 12 + [0] * 12
model = xai.wrap("out/faces.keras")
explainers = ["captum.integrated_gradients", ("captum.occlusion", {"patch": 5, "stride": 2}), "gradcam.gradcam"]
run = xai.compare(model, images, labels, explainers=explainers, classes=("other", "face"), out="out/faces")
print(run.summary[["label", "metric", "mean", "difference", "p_holm"]], run.findings, sep="\n")
run.plot("grid", samples=[0, 1, 2, 12, 13, 14]).savefig("out/faces/maps.png")
run.plot("ranking").savefig("out/faces/ranking.png")
