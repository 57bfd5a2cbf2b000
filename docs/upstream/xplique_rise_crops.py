"""Xplique: RISE crops a whole batch of masks at one place.

Petsiuk et al. (2018, section 3.2) shift every mask by an offset of its own. `Rise._apply_masks` in
xplique/attributions/rise.py crops the batch by one call of `tf.image.random_crop`, so that all masks of a batch share
their offset and the grid shows in the map.

Expected: an offset for every mask.
"""

import sys

import numpy as np
import tensorflow as tf
from xplique.attributions.rise import Rise

tf.random.set_seed(0)
pattern = tf.constant(np.tile(np.eye(4, dtype=np.float32)[None, ..., None], (32, 1, 1, 1)))
image = tf.zeros((32, 32, 3))
masks = Rise._apply_masks(image, pattern, 0.0)[1].numpy()
places = len(np.unique(masks.reshape(32, -1).round(5), axis=0))
print(f"32 masks of one pattern, each to be shifted at random: {places} different")
sys.exit(places > 1)
