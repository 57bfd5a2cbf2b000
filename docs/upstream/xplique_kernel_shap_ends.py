"""Xplique: the values of Kernel SHAP do not add up to the score of the input less that of the reference.

Lundberg & Lee (2017, theorem 2) weigh the coalitions of everything and of nothing infinitely: both scores are
constraints. `KernelShap` in xplique/attributions/kernel_shap.py draws neither and fits an ordinary linear regression.

Expected: both coalitions scored, and held exactly or heavily weighted, as in the paper and in Captum.
"""

import sys

import numpy as np
import tensorflow as tf
from xplique.attributions import KernelShap

tf.random.set_seed(0)
inputs = tf.keras.Input((8, 8, 3))
hidden = tf.keras.layers.Conv2D(8, 3, activation="relu")(inputs)
net = tf.keras.Model(inputs, tf.keras.layers.Dense(2)(tf.keras.layers.Flatten()(hidden)))
image = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
groups = tf.constant(np.arange(64).reshape(8, 8) // 16, tf.int32)
method = KernelShap(net, map_to_interpret_space=lambda _: groups, nb_samples=30, ref_value=np.zeros(3, np.float32))
values = method(image, tf.one_hot([0], 2)).numpy()[0].squeeze()
total = sum(float(values[groups.numpy() == group].mean()) for group in range(4))
gain = float(net(image)[0, 0] - net(np.zeros_like(image))[0, 0])
print(f"The values add up to {total:.4f}; the score less that of the reference is {gain:.4f}")
sys.exit(abs(total - gain) < 1e-3 * abs(gain))
