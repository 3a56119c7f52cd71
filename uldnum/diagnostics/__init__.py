"""How far a run is from its target: biases and distances, each with its error and its noise floor."""

from uldnum.diagnostics.bias import mean_bias, second_moment_bias
from uldnum.diagnostics.histograms import kolmogorov, wasserstein_1
from uldnum.diagnostics.jackknife import Bias
from uldnum.diagnostics.samples import (
    kernel_stein_discrepancy,
    maximum_mean_discrepancy,
    mode_weights,
    sliced_wasserstein_2,
)

__all__ = [
    "Bias",
    "kernel_stein_discrepancy",
    "kolmogorov",
    "maximum_mean_discrepancy",
    "mean_bias",
    "mode_weights",
    "second_moment_bias",
    "sliced_wasserstein_2",
    "wasserstein_1",
]
