"""Bias, distance and mixing diagnostics of runs, with standard errors.

* Bias of moments and other expectations: `mean_bias`, `second_moment_bias`, `observable_bias`, `signed_bias`.
* Distances between marginals: `wasserstein_1`, `kolmogorov`, `total_variation`, `kl`.
* A bias that needs only the score: `virial`.
* Distances between samples: `sliced_wasserstein_2`, `maximum_mean_discrepancy`, `kernel_stein_discrepancy`,
  `mode_weights`.
* Images, by features or classes: `frechet_distance`, `kernel_distance`, `precision`, `recall`, `density`, `coverage`,
  `class_distribution`, `effective_classes`, `nearest_training`; all of them in `IMAGE_METRICS`.
* Momenta: `kinetic_temperature`.
* Energies of splitting words: `shadow_work`, and the divergence from it, `kl_by_shadow_work`.
* Convergence from the initial state: `relaxation`, `time_below`.
* Mixing in equilibrium: `autocorrelation_time`, `chain_mean_times`, `effective_sample_size`, `hopping_rate`.
* Mixing of images: `feature_times`, `class_time`, `class_change_rate`, `classes_visited`, `burn_in_time`.

Biases and distances are measured against the properties of a target, or against samples (``reference``, see
`Reference`). They are returned as a `Bias` (value, error, floor). Rates, times and `signed_bias` are returned as an
`Estimate` (value, error).
"""

from uldnum.diagnostics._relaxation import relaxation
from uldnum.diagnostics.bias import mean_bias, observable_bias, second_moment_bias, signed_bias
from uldnum.diagnostics.histograms import kl, kolmogorov, total_variation, wasserstein_1
from uldnum.diagnostics.image_mixing import (
    burn_in_time,
    class_change_rate,
    class_time,
    classes_visited,
    feature_times,
)
from uldnum.diagnostics.images import (
    IMAGE_METRICS,
    ImageMetric,
    ImageSet,
    Moments,
    class_distribution,
    coverage,
    density,
    effective_classes,
    frechet_between,
    frechet_distance,
    image_metrics,
    kernel_distance,
    nearest_training,
    precision,
    recall,
)
from uldnum.diagnostics.jackknife import Bias
from uldnum.diagnostics.long_run import Evidence
from uldnum.diagnostics.mixing import (
    Estimate,
    autocorrelation_time,
    chain_mean_times,
    effective_sample_size,
    hopping_rate,
    time_below,
)
from uldnum.diagnostics.momenta import kinetic_temperature
from uldnum.diagnostics.reference import Reference
from uldnum.diagnostics.samples import (
    kernel_stein_discrepancy,
    maximum_mean_discrepancy,
    mode_weights,
    sliced_wasserstein_2,
    virial,
)
from uldnum.diagnostics.work import kl_by_shadow_work, shadow_work

__all__ = [
    "IMAGE_METRICS",
    "Bias",
    "Estimate",
    "Evidence",
    "ImageMetric",
    "ImageSet",
    "Moments",
    "Reference",
    "autocorrelation_time",
    "burn_in_time",
    "chain_mean_times",
    "class_change_rate",
    "class_distribution",
    "class_time",
    "classes_visited",
    "coverage",
    "density",
    "effective_classes",
    "effective_sample_size",
    "feature_times",
    "frechet_between",
    "frechet_distance",
    "hopping_rate",
    "image_metrics",
    "kernel_distance",
    "kernel_stein_discrepancy",
    "kinetic_temperature",
    "kl",
    "kl_by_shadow_work",
    "kolmogorov",
    "maximum_mean_discrepancy",
    "mean_bias",
    "mode_weights",
    "nearest_training",
    "observable_bias",
    "precision",
    "recall",
    "relaxation",
    "second_moment_bias",
    "shadow_work",
    "signed_bias",
    "sliced_wasserstein_2",
    "time_below",
    "total_variation",
    "virial",
    "wasserstein_1",
]
