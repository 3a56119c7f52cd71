"""The study of the quality of images: metrics of samplers as functions of the number of score evaluations."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from uldnum._util.arguments import shown
from uldnum._util.typing import Array
from uldnum.diagnostics.images import ImageMetric, ImageSet
from uldnum.sampling._anneal import fault_of_values
from uldnum.sampling.lookup import find_data
from uldnum.studies._sweep import collected
from uldnum.studies.batches import Batch, Images, joined
from uldnum.studies.common import level_outside
from uldnum.studies.comparison import Comparison
from uldnum.studies.configuration import QualityConfiguration, configured_by
from uldnum.studies.samplers import AtOneLevel, Sampler, samplers_of
from uldnum.targets import Display, Law, law_of, level_of
from uldnum.version import VERSION

__all__ = ["quality"]

# Number of images of each sampler that the dataset contains.
SHOWN = 10

POINT, METRIC, IMAGE = ("sampler", "nfe"), ("sampler", "nfe", "metric"), ("image", "channel", "row", "column")


@configured_by(QualityConfiguration)
def quality(study: QualityConfiguration) -> xr.Dataset:
    """Measure the quality of images of samplers as a function of the number of score evaluations.

    Image i of every sampler starts from the same random numbers. The images are sampled in batches, which are the
    points that `uldnum.studies.sweep` stores, so that an interrupted study resumes and several processes or the workers
    of a cluster share one study. Each point contains the features of its images; metrics are computed at the end.

    Returns
    -------
    xarray.Dataset
        Dimensions ``sampler``, ``nfe`` and ``metric``, and these variables:

        * ``value``: value of the metric, as in `uldnum.diagnostics.IMAGE_METRICS`; NaN where there are too few images
          or a plan has another number of evaluations.
        * ``error``: standard error of the value, which contains the noise of the reference images.
        * ``floor``: value of as many held-out images, or of one half of the reference images against the other if there
          are no held-out images (attribute ``floor_source``). If there are fewer such images, it is the value of
          ``floor_images`` images. ``floor_error`` is its standard error.
        * ``evaluations``: score evaluations per image, at most ``nfe``; 0 where there is no plan.
        * ``n``: number of images, without those of chains that diverged; ``diverged``: number of these chains.
        * ``images_per_second``: evaluations of images per second, in one process.
        * ``images``: the first images, with the dimensions ``image``, ``channel``, ``row`` and ``column``.

        The attributes of the dataset hold the network, the reference, the features and all other parameters.

    Raises
    ------
    ValueError
        If an argument is out of range or unknown, the network does not support a noise level, or the images of the
        network and of the reference have different shapes or ranges. All arguments are checked before the first run.

    Warns
    -----
    UserWarning
        If chains diverged, if there are fewer held-out images than images of a sampler, or if the images of a sampler
        are or may be wrong, as in `uldnum.anneal`.

    See Also
    --------
    uldnum.plotting.draw_quality : Figure of this study.

    Notes
    -----
    All samplers use the same random numbers, so the errors of two samplers are not independent. The error of a
    difference is usually smaller than the errors of both values suggest.

    Chains at one noise level are measured after several numbers of evaluations of a single run.

    Examples
    --------
    The exact score of two images, whose pixels are the features, at two numbers of evaluations:

    >>> import numpy as np
    >>> import uldnum
    >>> images = np.random.default_rng(0).uniform(-1, 1, (200, 1, 2, 2))
    >>> data = uldnum.targets.DataMixture(images)
    >>> found = uldnum.studies.quality(data, ["ddim", "heun"], [3, 10], reference=images, features="pixels", images=64)
    >>> found.evaluations.values.tolist()
    [[3, 10], [3, 9]]
    >>> bool(found.value.sel(sampler="heun", nfe=10, metric="frechet") < 0.1)
    True
    """
    plan = Prepared.of(study)
    batches = plan.batches(study)
    found = collected(
        [batch for _, batch in batches], study.store, study.executor, study.progress and f"images of {plan.law.name}",
        unit="image", size=lambda batch: batch.evaluations,
    )  # fmt: skip
    parts: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for name, batch in batches:
        for nfe, part in zip(batch.sampler.asked, found[batch.key]["images"], strict=True):
            parts[name, nfe].append(part)
    return plan.dataset(study, {point: joined(images) for point, images in parts.items()})


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a study compares.

    Attributes
    ----------
    law : Law
        The network.
    samplers : dict of str to list of Sampler
        Samplers by name.
    comparison : Comparison
        Reference images, features and metrics.
    """

    law: Law
    samplers: dict[str, list[Sampler]]
    comparison: Comparison

    @classmethod
    def of(cls, study: QualityConfiguration) -> Prepared:
        """Return what a study compares, or raise if an argument is invalid."""
        given = study.network
        law = law_of(find_data(given) if isinstance(given, str | Path) else given)
        nfe: Any = study.nfe
        samplers = samplers_of(study.samplers, nfe, study.levels, study.steps, study.h, law)
        for name, parts in samplers.items():
            for sampler in parts:
                shape = shape_of(law, name, sampler)
        for fault in {part.warning(law): None for parts in samplers.values() for part in parts}:
            if fault:
                warnings.warn(fault, stacklevel=level_outside())
        options = {name: getattr(study, name) for name in ("reference", "features", "metrics", "data_range")}
        comparison = Comparison.of(law, shape, study.images, **options)
        if comparison.floor_images(study.images) < study.images:
            warnings.warn(
                f"reference: the floor is the value of {comparison.floor_images(study.images)} images of "
                f"{comparison.floor_source}, fewer than the {study.images} images of a sampler",
                stacklevel=level_outside(),
            )
        return cls(law, samplers, comparison)

    def batches(self, study: QualityConfiguration) -> list[tuple[str, Batch]]:
        """Return the tasks of a study with the names of their samplers."""
        features, data_range = self.comparison.features, self.comparison.reference.data_range
        return [
            (name, Batch(
                self.law, name, sampler, features, data_range, first, min(study.batch, study.images - first),
                max(0, SHOWN - first), study.seed, study.backend,
            ))
            for name, parts in self.samplers.items()
            for sampler in parts
            for first in range(0, study.images, study.batch)
        ]  # fmt: skip

    def dataset(self, study: QualityConfiguration, found: dict[tuple[str, int], Images]) -> xr.Dataset:
        """Return the dataset of the images of all points, (sampler, nfe)."""
        self.warn_of_divergence(found)
        self.warn_of_values(found)
        names, numbers = list(self.samplers), sorted({nfe for _, nfe in found})
        evaluations = {
            (name, asked): real
            for name, parts in self.samplers.items()
            for sampler in parts
            for asked, real in zip(sampler.asked, sampler.evaluations, strict=True)
        }
        metrics, measured = self.measured(study, found)

        def gridded(of: Callable[[tuple[str, int]], Any], empty: Any) -> Array:
            return np.array([[of((name, nfe)) if (name, nfe) in found else empty for nfe in numbers] for name in names])

        def rate(point: tuple[str, int]) -> float:
            images = found[point]
            return evaluations[point] * (len(images.chains) + images.diverged) / images.seconds

        def pictures(point: tuple[str, int]) -> Array:
            shown = found[point].shown[:SHOWN]
            return np.pad(shown, ((0, SHOWN - len(shown)), *3 * ((0, 0),)), constant_values=np.nan)

        nothing = np.full((len(metrics), 4), np.nan)
        values = gridded(lambda point: measured.get(point, nothing), nothing)
        shown = gridded(pictures, np.full((SHOWN, *next(iter(found.values())).shown.shape[1:]), np.nan, np.float32))
        units = {"units": "1"}
        data = {
            "value": (METRIC, values[..., 0], {"long_name": "value of the metric"}),
            "error": (METRIC, values[..., 1], {"long_name": "standard error of the value"}),
            "floor": (METRIC, values[..., 2], {"long_name": "value of as many real images"}),
            "floor_error": (METRIC, values[..., 3], {"long_name": "standard error of the floor"}),
            "evaluations": (POINT, gridded(evaluations.__getitem__, 0), {
                "units": "score evaluations", "long_name": "score evaluations per image",
            }),
            "n": (POINT, gridded(lambda point: len(found[point].chains), 0), units | {"long_name": "images"}),
            "diverged": (POINT, gridded(lambda point: found[point].diverged, 0), units | {
                "long_name": "chains that diverged",
            }),
            "images_per_second": (POINT, gridded(rate, np.nan), {
                "units": "1/s", "long_name": "evaluations of images per second",
            }),
            "images": ((*POINT, *IMAGE), shown, {"long_name": "the first images"}),
        }  # fmt: skip
        coordinates = {
            "sampler": names, "nfe": ("nfe", numbers, {"long_name": "score evaluations per image, at most"}),
            "metric": [metric.name for metric in metrics], "label": ("metric", [metric.label for metric in metrics]),
            "unit": ("metric", [metric.unit for metric in metrics]),
        }  # fmt: skip
        return xr.Dataset(data, coordinates, self.attributes(study))

    def measured(
        self, study: QualityConfiguration, found: dict[tuple[str, int], Images]
    ) -> tuple[list[ImageMetric], dict[tuple[str, int], Array]]:
        """Return the metrics, and their value, error, floor and error of the floor at the points with enough images.

        These are the points at which at most half of the chains diverged. All metrics use the same number of images of
        each of them.
        """
        least = max(self.comparison.least, -(-study.images // 2))
        counts = {point: len(images.chains) for point, images in found.items() if len(images.chains) >= least}
        metrics = self.comparison.metrics(min(counts.values(), default=study.images))
        floors = {count: self.comparison.floor(metrics, count) for count in set(counts.values())}
        rows = {}
        for point, count in counts.items():
            images = found[point]
            values = self.comparison.measured(metrics, ImageSet(images.features, images.classes, images.chains))
            rows[point] = np.array([[*values[name], *floors[count][name]] for name in self.comparison.names])
        return metrics, rows

    def warn_of_divergence(self, found: dict[tuple[str, int], Images]) -> None:
        """Warn, for each sampler, of the numbers of evaluations at which chains diverged."""
        for name in self.samplers:
            lost = {nfe: images.diverged for (one, nfe), images in found.items() if one == name and images.diverged}
            if lost:
                warnings.warn(
                    f"{name} diverged in {max(lost.values())} chains at nfe = {', '.join(map(str, lost))}; they have "
                    "no images, which makes the metrics look better",
                    stacklevel=level_outside(),
                )

    def warn_of_values(self, found: dict[tuple[str, int], Images]) -> None:
        """Warn, for each sampler, of values far outside the range of the data, unless a range was given."""
        if self.comparison.reference.data_range != self.law.data_range:
            return
        for name in self.samplers:
            most = max((images.outside for (one, _), images in found.items() if one == name), default=0.0)
            if fault := fault_of_values(most, self.law):
                warnings.warn(f"{name}: {fault}", stacklevel=level_outside())

    def attributes(self, study: QualityConfiguration) -> dict[str, Any]:
        """Return the attributes of the dataset: what was compared, and how images are drawn."""
        comparison = self.comparison
        display = self.law.display or Display(comparison.reference.data_range)
        if display.limits == self.law.data_range:  # the card states no other limits for pictures
            display = display._replace(limits=comparison.reference.data_range)
        return {
            "uldnum": VERSION, "study": "quality", "network": self.law.name, "reference": comparison.reference.name,
            "floor_source": comparison.floor_source, "floor_images": comparison.floor_images(study.images),
            "features": comparison.features.name,
            "features_fingerprint": comparison.features.fingerprint(comparison.reference.shape),
            "reference_fingerprint": comparison.reference.fingerprint,
            "data_range": list(comparison.reference.data_range), "chains": study.images, "batch": study.batch,
            "seed": study.seed, "backend": study.backend or "",
            "levels": study.levels if isinstance(study.levels, str) else shown(study.levels), "steps": study.steps,
            "h": study.h, "display": list(display.limits), "gamma": display.gamma, "colours": display.colours,
        }  # fmt: skip


def shape_of(law: Law, name: str, sampler: Sampler) -> tuple[int, ...]:
    """Return the shape of the states of a sampler, or raise if the network does not support its noise levels."""
    for place in sampler.places:
        try:
            level = level_of(law, *place)
        except ValueError as error:
            raise ValueError(f"samplers: {name!r}: {str(error).removeprefix('levels: ')}") from None
        if len(level.shape) != 3:
            raise ValueError(
                f"network: must have images of shape (channels, height, width), got {law.name!r} with shape "
                f"{tuple(level.shape)}; a function of vectors (n, d) can be given as one of images (n, 1, 1, d)"
            )
        if isinstance(sampler, AtOneLevel) and sampler.denoise and not hasattr(level, "denoise"):
            raise ValueError(f"network: {law.name!r} cannot denoise images; give denoise=False")
    return tuple(level.shape)
