"""Studies: sweeps over integrators, frictions and step sizes that return labelled data."""

from uldnum.studies.bias import bias, exact_bias
from uldnum.studies.frontier import Advice, advise, frontier
from uldnum.studies.mixing import mixing
from uldnum.studies.sweep import scheduler, sweep

__all__ = ["Advice", "advise", "bias", "exact_bias", "frontier", "mixing", "scheduler", "sweep"]
