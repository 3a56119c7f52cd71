"""Metrics of images: how good, how diverse, and how different from the training images they are.

The functions compare arrays of features, shape (images, features), or of classes, shape (images,). The images of one
chain are correlated, so errors are estimated from chains (``chains``). The floor is the value of held-out images.
"""

from uldnum.diagnostics.images.classes import class_distribution, effective_classes
from uldnum.diagnostics.images.frechet import Moments, frechet_between, frechet_distance
from uldnum.diagnostics.images.kernel import kernel_distance
from uldnum.diagnostics.images.manifolds import coverage, density, precision, recall
from uldnum.diagnostics.images.nearest import nearest_training
from uldnum.diagnostics.images.registry import IMAGE_METRICS, ImageMetric, ImageSet, image_metrics

__all__ = [
    "IMAGE_METRICS",
    "ImageMetric",
    "ImageSet",
    "Moments",
    "class_distribution",
    "coverage",
    "density",
    "effective_classes",
    "frechet_between",
    "frechet_distance",
    "image_metrics",
    "kernel_distance",
    "nearest_training",
    "precision",
    "recall",
]
