"""How far a run is from its target."""

from uldnum.diagnostics.bias import Bias, mean_bias, second_moment_bias

__all__ = ["Bias", "mean_bias", "second_moment_bias"]
