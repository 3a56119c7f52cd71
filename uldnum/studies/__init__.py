"""Studies: sweeps over integrators, step sizes and frictions that return labelled xarray datasets.

`bias` measures the bias of the stationary distribution as a function of the step size, and `exact_bias` computes it
without sampling. `mixing` measures the cost of an independent sample. `frontier` measures both as functions of step
size and friction, and `advise` returns the cheapest point of a frontier whose bias is below a bound. `quality` measures
images of samplers as a function of the number of score evaluations. `sweep` computes and stores the independent tasks
of a study, on one machine or on many; `scheduler` connects it to a Dask cluster, and `gpus`
divides the tasks among the GPUs of this machine.
"""

from uldnum.studies._bias import bias, exact_bias
from uldnum.studies._frontier import Advice, advise, frontier
from uldnum.studies._gpus import gpus
from uldnum.studies._mixing import mixing
from uldnum.studies._quality import quality
from uldnum.studies._sweep import scheduler, sweep

__all__ = ["Advice", "advise", "bias", "exact_bias", "frontier", "gpus", "mixing", "quality", "scheduler", "sweep"]
