"""A small set of images with a known score, and a study of it, for tests of the quality of images."""

import numpy as np

import uldnum

DIGITS = np.random.default_rng(0).uniform(-1, 1, (160, 1, 2, 2)).astype(np.float32)
DATA = uldnum.targets.DataMixture(DIGITS[:40], "few")
OPTIONS = {"reference": DIGITS, "features": "pixels", "images": 32, "batch": 12, "progress": False}
SAMPLERS = {
    "heun": "heun",
    "chain": ("BAOAB", 0.3, {"h": 1.0}),
    "ddim": lambda nfe: uldnum.plan("ddim", uldnum.levels.geometric(5.0, 0.1, nfe)),
    "fixed": uldnum.plan("ula", uldnum.levels.geometric(5.0, 0.1, 4), h=0.5),
}


def corners(images):
    """Three features of images: two pixels and a square."""
    return np.stack([images[:, 0, 0, 0], images[:, 0, 1, 1], images[:, 0, 0, 1] ** 2], axis=1)


def study(**options):
    return uldnum.studies.quality(DATA, SAMPLERS, [4, 9], **OPTIONS | options)
