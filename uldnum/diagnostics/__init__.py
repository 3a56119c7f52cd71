"""How far a run is from its target, and how fast it mixes, each with its error."""

from uldnum.diagnostics._relaxation import relaxation
from uldnum.diagnostics.bias import mean_bias, second_moment_bias
from uldnum.diagnostics.histograms import kolmogorov, wasserstein_1
from uldnum.diagnostics.jackknife import Bias
from uldnum.diagnostics.mixing import (
    Estimate,
    autocorrelation_time,
    chain_mean_times,
    effective_sample_size,
    hopping_rate,
    time_below,
)
from uldnum.diagnostics.samples import (
    kernel_stein_discrepancy,
    maximum_mean_discrepancy,
    mode_weights,
    sliced_wasserstein_2,
)

__all__ = [
    "Bias",
    "Estimate",
    "autocorrelation_time",
    "chain_mean_times",
    "effective_sample_size",
    "hopping_rate",
    "kernel_stein_discrepancy",
    "kolmogorov",
    "maximum_mean_discrepancy",
    "mean_bias",
    "mode_weights",
    "relaxation",
    "second_moment_bias",
    "sliced_wasserstein_2",
    "time_below",
    "wasserstein_1",
]
