"""Studies: sweeps over integrators, frictions and step sizes that return labelled data."""

from uldnum.studies._bias import bias, exact_bias
from uldnum.studies._frontier import Advice, advise, frontier
from uldnum.studies._mixing import mixing
from uldnum.studies._sweep import scheduler, sweep

__all__ = ["Advice", "advise", "bias", "exact_bias", "frontier", "mixing", "scheduler", "sweep"]
