"""Reference images and their features, with which images of samplers are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from uldnum._util.arguments import shown
from uldnum._util.names import unknown
from uldnum._util.typing import Array
from uldnum.diagnostics.images import IMAGE_METRICS, ImageMetric, ImageSet, image_metrics
from uldnum.diagnostics.images.manifolds import K, N
from uldnum.networks import Features, ReferenceImages, reference_images
from uldnum.networks import features as find_features
from uldnum.targets import Law

__all__ = ["Comparison", "Measured"]

# Fraction of the range of the reference images by which other images may exceed this range.
SLACK = 0.01

# Values and standard errors of metrics by name.
Measured = dict[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Reference images, the features in which images are compared, and the metrics.

    Attributes
    ----------
    reference : ReferenceImages
        The reference images.
    features : Features
        The features.
    names : tuple of str
        Names of the metrics.
    """

    reference: ReferenceImages
    features: Features
    names: tuple[str, ...]

    @classmethod
    def of(
        cls, law: Law, shape: tuple[int, ...], count: int, *, reference: Any, features: Any = "digits",
        metrics: str | Sequence[str] | None = None, data_range: tuple[float, float] | None = None,
    ) -> Comparison:  # fmt: skip
        """Return the comparison of images with reference images, or raise if they cannot be compared.

        Parameters
        ----------
        law : Law
            Distribution of the images.
        shape : tuple of int
            Shape of its states, which ``law.decode`` maps to images.
        count : int
            Number of images.
        reference, features, metrics, data_range
            As in `uldnum.studies.quality`.
        """
        known = reference_images(reference, law.data_range if data_range is None else data_range)
        known.check_like(law.decode(np.zeros((1, *shape), np.float32)).shape[1:], known.data_range)
        check_extremes(known, law.extremes)
        maps = find_features(features)
        maps.check_like(known.shape, known.data_range)
        found = cls(known, maps, names_of(metrics, known, maps))
        found.check_count(count)
        return found

    def check_count(self, count: int) -> None:
        """Raise if there are too few images of a sampler, or too few real images, for the number of features."""
        for what, number in (
            ("images: must be", count), ("reference: the training images must be", len(self.reference)),
            (f"reference: {self.floor_source} must be", len(self.apart[0].features)),
        ):  # fmt: skip
            if number < self.least:
                width = self.apart[0].features.shape[1]
                raise ValueError(f"{what} at least {self.least} for {width} features, got {number}")

    @property
    def least(self) -> int:
        """Smallest number of images: ``2 f + 2`` for f features, but at least ``2 K + 2`` for K nearest neighbours."""
        return max(2 * self.apart[0].features.shape[1] + 2, 2 * K + 2)

    @cached_property
    def train(self) -> ImageSet:
        """The training images."""
        return self.of_images(self.reference.train)

    @cached_property
    def apart(self) -> tuple[ImageSet, ImageSet]:
        """Two sets of real images. The metrics of the first set, compared with the second, are the floors.

        The sets are the held-out images in a random order and the training images. Without held-out images they are two
        random halves of the training images.
        """
        held_out = self.reference.held_out
        if held_out is not None:
            return part(self.of_images(held_out), order(len(held_out))), self.train
        mixed = order(len(self.reference))
        return part(self.train, mixed[::2]), part(self.train, mixed[1::2])

    @property
    def floor_source(self) -> str:
        """Description of the real images whose metrics are the floors."""
        return "one half of the reference images" if self.reference.held_out is None else "held-out images"

    def floor_images(self, count: int) -> int:
        """Return the number of real images from which the floors for ``count`` images of a sampler are computed."""
        return min(count, len(self.apart[0].features))

    def of_images(self, images: Array) -> ImageSet:
        """Return the features and classes of images after clipping them to the range of the reference images."""
        return ImageSet(*self.features.features_and_classes(images.clip(*self.reference.data_range)))

    def metrics(self, count: int) -> list[ImageMetric]:
        """Return the metrics of ``count`` images.

        Metrics that compare equal numbers of samples and of reference images, such as precision, use at most N = 1000
        of each. The label of a Frechet distance contains the name of the features, as in FD(digits).
        """
        n = min(N, self.floor_images(count), len(self.apart[1].features))
        declared, distance = image_metrics(n=n), f"FD({self.features.name})"
        chosen = [declared[name] for name in self.names]
        return [replace(one, label=one.label.replace("Frechet distance", distance)) for one in chosen]

    def measured(self, metrics: Sequence[ImageMetric], images: ImageSet) -> Measured:
        """Return the metrics of images."""
        return values(metrics, images, self.train, self.floor_set(len(images.features)))

    def floor(self, metrics: Sequence[ImageMetric], count: int) -> Measured:
        """Return the metrics of ``count`` real images, or of all of them if there are fewer."""
        return values(metrics, self.floor_set(count), self.apart[1], self.floor_set(count))

    def floor_set(self, count: int) -> ImageSet:
        """Return ``count`` of the real images whose metrics are floors, or all of them if there are fewer."""
        return part(self.apart[0], np.arange(self.floor_images(count)))


def names_of(metrics: Any, reference: ReferenceImages, maps: Features) -> tuple[str, ...]:
    """Return the names of the given metrics, or of all that features and reference permit, or raise."""
    lacking = {
        "classes": "features with classes" if maps.classes(reference.train[:1]) is None else "",
        "training": "a reference with held-out images" if reference.held_out is None else "",
    }
    possible = [name for name, metric in IMAGE_METRICS.items() if not lacking.get(metric.needs)]
    names = [metrics] if isinstance(metrics, str) else possible if metrics is None else metrics
    for name in names:
        if not isinstance(name, str) or name not in IMAGE_METRICS:
            raise unknown("metrics", name, IMAGE_METRICS, f"The metrics are {', '.join(IMAGE_METRICS)}")
        if name not in possible:
            raise ValueError(f"metrics: {name} needs {lacking[IMAGE_METRICS[name].needs]}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"metrics: must be one or more different names, got {shown(metrics)}")
    return tuple(names)


def check_extremes(reference: ReferenceImages, extremes: tuple[float, float] | None) -> None:
    """Raise if these extreme values of images exceed the range of the reference images, or span at most half of it."""
    low, high = reference.data_range
    slack = SLACK * (high - low)
    if extremes is not None and (
        extremes[0] < low - slack or extremes[1] > high + slack or extremes[1] - extremes[0] <= (high - low) / 2
    ):
        raise ValueError(
            f"reference: the images {reference.name} have values from {low:g} to {high:g}, but the images "
            f"compared with them have values from {extremes[0]:g} to {extremes[1]:g}"
        )


def values(metrics: Sequence[ImageMetric], images: ImageSet, reference: ImageSet, held_out: ImageSet) -> Measured:
    """Return values and errors of metrics, without the floors that a metric computes from held-out images."""
    found = {
        metric.name: metric.function(images, reference, held_out if metric.needs == "training" else None)
        for metric in metrics
    }
    return {name: (float(one.value), float(one.error)) for name, one in found.items()}


def order(count: int) -> Array:
    """Return the numbers from 0 to count - 1 in a fixed random order."""
    return np.random.default_rng(0).permutation(count)


def part(images: ImageSet, chosen: Array) -> ImageSet:
    """Return the chosen images."""
    return ImageSet(images.features[chosen], None if images.classes is None else images.classes[chosen])
