"""Studies: sweeps over integrators and step sizes that return labelled data."""

from uldnum.studies.bias import bias, exact_bias

__all__ = ["bias", "exact_bias"]
