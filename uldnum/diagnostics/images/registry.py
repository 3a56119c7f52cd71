"""Registry of the metrics of images: name, label, unit, required data and function of each.

Studies, tables and figures of images read `IMAGE_METRICS`, or `image_metrics` for other numbers of images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uldnum._util.typing import Array
from uldnum.diagnostics.images.classes import class_distribution, effective_classes
from uldnum.diagnostics.images.frechet import frechet_distance
from uldnum.diagnostics.images.kernel import kernel_distance
from uldnum.diagnostics.images.manifolds import K, N, coverage, density, precision, recall
from uldnum.diagnostics.images.nearest import nearest_training
from uldnum.diagnostics.jackknife import Bias

__all__ = ["IMAGE_METRICS", "ImageMetric", "ImageSet", "image_metrics"]


@dataclass(frozen=True)
class ImageSet:
    """Features, classes and chains of n images.

    Attributes
    ----------
    features : array, shape (n, f)
        Features.
    classes : array of int, shape (n,), optional
        Class of each image, if the feature model has classes.
    chains : array of int, shape (n,), optional
        Number of the chain of each image. The default stands for independent images.

    Examples
    --------
    >>> import numpy as np
    >>> from uldnum.diagnostics import ImageSet
    >>> ImageSet(np.zeros((3, 2)), classes=np.array([0, 1, 1])).classes.tolist()
    [0, 1, 1]
    """

    features: Array
    classes: Array | None = None
    chains: Array | None = None


@dataclass(frozen=True)
class ImageMetric:
    """Metric of images.

    Attributes
    ----------
    name : str
        Name in datasets and arguments.
    label : str
        Description, for labels of tables and figures. It contains k and n if the value depends on them.
    unit : str
        Unit in words; empty for a dimensionless metric.
    needs : {"features", "classes", "training"}
        Data from which the metric is computed. "training" stands for features of training and of held-out images.
    function : callable
        ``function(samples, reference, held_out)`` returns the metric as a `Bias`, for three `ImageSet`. The third may
        be None, except for a metric that needs "training".
    better : {"less", "more", ""}
        Whether less or more is better; empty if the value of the held-out images is best.

    Examples
    --------
    >>> from uldnum.diagnostics import IMAGE_METRICS
    >>> one = IMAGE_METRICS["precision"]
    >>> one.name, one.needs, one.better
    ('precision', 'features', 'more')
    """

    name: str
    label: str
    unit: str
    needs: str
    function: Callable[[ImageSet, ImageSet, ImageSet | None], Bias]
    better: str = ""

    @property
    def title(self) -> str:
        """Label and unit, for an axis of a figure."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def known(self, samples: ImageSet, held_out: ImageSet | None = None) -> bool:
        """Return whether the data that the metric needs are given."""
        if self.needs == "classes":
            return samples.classes is not None
        return self.needs != "training" or held_out is not None


def of_features(function: Callable[..., Bias], **options: Any) -> Callable[..., Bias]:
    """Return the function of image sets that compares their features."""

    def measure(samples: ImageSet, reference: ImageSet, held_out: ImageSet | None) -> Bias:
        others = None if held_out is None else held_out.features
        return function(samples.features, reference.features, chains=samples.chains, held_out=others, **options)

    return measure


def of_training(samples: ImageSet, reference: ImageSet, held_out: ImageSet | None) -> Bias:
    """Return `nearest_training` of image sets, or raise without held-out images."""
    if held_out is None:
        raise ValueError("held_out: must be given, because distances from training images are compared with theirs")
    return nearest_training(samples.features, reference.features, held_out.features, chains=samples.chains)


def of_classes(samples: ImageSet, reference: ImageSet, held_out: ImageSet | None) -> Bias:
    """Return `class_distribution` of image sets."""
    others = None if held_out is None else held_out.classes
    return class_distribution(samples.classes, reference.classes, chains=samples.chains, held_out_labels=others)


def of_class_numbers(samples: ImageSet, reference: ImageSet, held_out: ImageSet | None) -> Bias:
    """Return `effective_classes` of an image set."""
    others = None if held_out is None else held_out.classes
    return effective_classes(samples.classes, chains=samples.chains, held_out_labels=others)


def image_metrics(*, k: int = K, n: int = N) -> dict[str, ImageMetric]:
    """Return the metrics of images by name, with precision, recall, density and coverage at the given k and n.

    Parameters
    ----------
    k : int, default 5
        Number of nearest neighbours.
    n : int, default 1000
        Number of samples and of reference images.

    Returns
    -------
    dict of str to ImageMetric

    Examples
    --------
    >>> from uldnum.diagnostics import image_metrics
    >>> image_metrics(n=500)["recall"].title
    'recall (k = 5, n = 500)'
    """
    fixed = f"(k = {k}, n = {n})"
    squared = "squared units of the features"
    metrics = [
        ImageMetric(
            "frechet", "Frechet distance, extrapolated", squared, "features", of_features(frechet_distance), "less"
        ),
        ImageMetric("kernel", "kernel distance", "", "features", of_features(kernel_distance), "less"),
        *(
            ImageMetric(name, f"{name} {fixed}", "", "features", of_features(function, k=k, n=n), better)
            for name, function, better in (
                ("precision", precision, "more"),
                ("recall", recall, "more"),
                ("density", density, ""),
                ("coverage", coverage, "more"),
            )
        ),
        ImageMetric("classes", "total variation of classes", "", "classes", of_classes, "less"),
        ImageMetric("effective_classes", "effective number of classes", "", "classes", of_class_numbers),
        ImageMetric("nearest_training", "probability of a closer training image", "", "training", of_training),
    ]
    return {metric.name: metric for metric in metrics}


# Metrics of images by name, with k = 5 and n = 1000.
IMAGE_METRICS = image_metrics()
