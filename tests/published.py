"""What other libraries publish of their deletion and insertion, written again one image, one step and one pass at a time.

Each takes `score(image)` of one image (channels, height, width) as the library sees it, the image, and a map (channels or 1,
height, width); and gives the numbers that the library would print for them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter


def _switch(start, finish, order, step):
    """Every image on the way from start to finish, `step` pixels at a time, both ends included."""
    image, images = start.reshape(len(start), -1).copy(), [start]
    for at in range(0, len(order), step):
        now = order[at : at + step]
        image[:, now] = finish.reshape(len(finish), -1)[:, now]
        images.append(image.reshape(start.shape).copy())
    return images


def rise_blur(image):
    """A convolution with zeros outside, its kernel being a filtered dirac of 11 × 11."""
    dirac = np.zeros((11, 11))
    dirac[5, 5] = 1
    kernel = gaussian_filter(dirac, 5)
    out = np.zeros_like(image)
    padded = np.pad(image, ((0, 0), (5, 5), (5, 5)))
    for dy in range(11):
        for dx in range(11):
            out += kernel[dy, dx] * padded[:, dy : dy + image.shape[1], dx : dx + image.shape[2]]
    return out


def rise(score, image, relevance, step=224):
    order = np.flip(np.argsort(relevance.reshape(-1)))
    areas = []
    for start, finish in ((image, np.zeros_like(image)), (rise_blur(image), image)):
        s = np.array([score(x) for x in _switch(start, finish, order, step)])
        areas.append((s.sum() - s[0] / 2 - s[-1] / 2) / (len(s) - 1))
    return areas


def quantus_pixel_flipping(score, image, relevance, step):
    a = np.broadcast_to(relevance, image.shape).flatten()
    order, flat, scores = np.argsort(-a), image.flatten(), []
    for at in range(0, len(order), step):
        flat[order[at : at + step]] = flat.min()
        scores.append(score(flat.reshape(image.shape)))
    return [float(sum((a + b) / 2 for a, b in pairwise(scores)))]


def torchcam(score, image, relevance, steps=20):
    order = sorted(range(relevance.size), key=lambda p: -relevance.ravel()[p])
    step, black = -(-len(order) // steps), np.zeros_like(image)
    x = np.array([*range(0, len(order), step), len(order)]) / len(order)
    areas = []
    for start, finish in ((image, black), (black, image)):
        s = [score(v) for v in _switch(start, finish, order, step)]
        areas.append(sum((s[i] + s[i + 1]) / 2 * (x[i + 1] - x[i]) for i in range(len(x) - 1)))
    return areas


def torchvision_blur(image):
    import torch
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(torch.from_numpy(image), [9, 9], [5.0, 5.0]).numpy()


def latec(score, image, relevance):
    order = np.argsort(-relevance.ravel(), kind="stable")
    areas = []
    for start, finish in ((image, np.zeros_like(image)), (torchvision_blur(image), image)):
        s = np.array([score(v) for v in _switch(start, finish, order, 10)[1:-1]])
        areas.append(((s[1:] + s[:-1]) / 2).sum() / len(s))
    return areas


def interpretdl(score, image, grey, relevance):
    a = np.squeeze(relevance)
    a = np.abs(a).sum(0) if a.ndim == 3 else a
    levels = np.percentile(a, [5 * (i - 1) for i in range(20, 0, -1)])
    deleted = [image, *(np.where(a > p, grey, image) for p in levels)]
    inserted = [*(np.where(a > p, image, grey) for p in levels), image]
    return [np.mean([score(v) for v in images]) for images in (deleted, inserted)]


def pnpxai(score, image, relevance, n_steps=10):
    values, total = relevance.ravel(), relevance.size
    result = []
    for sign in (-1, 1):  # most relevant first, least relevant first; ties as they come
        order = sorted(range(total), key=lambda p, sign=sign: sign * values[p])
        flipped = [0, *(total // n_steps * step for step in range(1, n_steps - 1)), total]
        s = []
        for k in flipped:
            keep = np.ones(total)
            keep[order[:k]] = 0
            s.append(score((image * keep.reshape(relevance.shape)).astype(image.dtype)))
        result.append(np.mean(s))
    return result
