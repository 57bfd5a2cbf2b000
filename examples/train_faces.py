"""A small Keras network that tells faces from other pictures, trained in seconds on the 200 pictures scikit-image carries."""

from pathlib import Path

import keras
import numpy as np
from skimage.data import lfw_subset


def train(path: Path) -> float:
    """Write the network to a `.keras` file; returns its accuracy on the quarter of the pictures that it never saw."""
    keras.utils.set_random_seed(0)
    images, labels = lfw_subset()[..., None].astype(np.float32), np.repeat([1, 0], 100)  # the faces come first
    held_out = np.arange(200) % 4 == 0
    layers = [keras.layers.Conv2D(16, 3, activation="relu"), keras.layers.MaxPooling2D()]
    layers += [keras.layers.Conv2D(32, 3, activation="relu", name="features"), keras.layers.GlobalAveragePooling2D()]
    net = keras.Sequential([keras.Input((25, 25, 1)), *layers, keras.layers.Dense(2)], name="faces")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.Adam(5e-3), loss, metrics=["accuracy"])
    net.fit(images[~held_out], labels[~held_out], epochs=40, batch_size=16, verbose=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    net.save(path)
    return float(net.evaluate(images[held_out], labels[held_out], verbose=0)[1])


if __name__ == "__main__":
    print(f"accuracy on held-out pictures: {train(Path('out/faces.keras')):.2f}")
