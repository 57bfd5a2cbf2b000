"""Twelve photographs of scikit-image with a table of labels, a small `.keras` file and a small Hugging Face folder, in out/.

`python examples/photographs.py` downloads nothing. What to run on them: docs/command-line.md, "On twelve photographs"."""

import csv
from pathlib import Path

import numpy as np
import skimage.data
import torch
import transformers
from PIL import Image

import crossxai  # noqa: F401 - before TensorFlow, which Keras imports: torch and TensorFlow in one process are then safe

LABELS = {
    "living": ("astronaut.png", "camera.png", "chelsea.png"),
    "sky": ("hubble_deep_field.jpg", "moon.png", "rocket.jpg"),
    "surface": ("brick.png", "grass.png", "gravel.png"),
    "thing": ("coffee.png", "coins.png", "motorcycle_left.png"),
}
OUT, SIDE = Path("out"), 64


def photographs(folder: Path) -> None:
    """The photographs in their own proportions, from 200 to 420 pixels wide, and photographs.csv with file and label."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("file", "label")]
    for place, (label, name) in enumerate((label, name) for label, names in LABELS.items() for name in names):
        picture = Image.open(Path(skimage.data.__file__).parent / name).convert("RGB")
        picture.thumbnail((200 + 20 * place, 200 + 20 * place))
        picture.save(folder / f"{Path(name).stem}.jpg")
        rows.append((f"{Path(name).stem}.jpg", label))
    with (folder / "photographs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def keras_file(path: Path, folder: Path) -> None:
    """A Keras network that takes values from 0 to 255 and gives probabilities; it learns the twelve photographs by heart."""
    import keras

    keras.utils.set_random_seed(0)
    given = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(given)
    for filters in (16, 32, 64):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    net = keras.Model(given, keras.layers.Dense(len(LABELS), activation="softmax")(x))
    with (folder / "photographs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = [Image.open(folder / row["file"]).resize((SIDE, SIDE)) for row in rows]
    labels = np.array([list(LABELS).index(row["label"]) for row in rows])
    net.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    net.fit(np.stack(pictures).astype(np.float32), labels, epochs=80, verbose=0)
    net.save(path)


def transformer(folder: Path) -> None:
    """A Hugging Face folder of a ViT as it is before training, with weights large enough that it tells pictures apart."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=96, image_size=SIDE, patch_size=8,
        initializer_range=0.3, id2label=dict(enumerate(LABELS)),
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


if __name__ == "__main__":
    photographs(OUT / "photographs")
    keras_file(OUT / "photographs.keras", OUT / "photographs")
    transformer(OUT / "vit")
