"""uldnum: what discretisation does to Langevin sampling, measured and exact.

>>> import uldnum
>>> target = uldnum.GaussianMixture(weights=[0.7, 0.3], means=[[1.5], [-1.5]], variances=[1.0, 1.0])
>>> run = uldnum.sample(target, "BAOAB", h=0.4, steps=1000, burn_in=100, chains=256, seed=1)
>>> run.mean.shape, run.nfe
((1,), 1101)
"""

from uldnum import diagnostics, exact, levels, networks, studies
from uldnum.annealing import anneal
from uldnum.integrators import Integrator, integrator, integrators, splitting
from uldnum.plans import Plan, plan, preset
from uldnum.run import Run
from uldnum.sampling import sample
from uldnum.targets import GaussianMixture, UserTarget, target
from uldnum.version import VERSION

__all__ = [
    "GaussianMixture",
    "Integrator",
    "Plan",
    "Run",
    "UserTarget",
    "anneal",
    "diagnostics",
    "exact",
    "integrator",
    "integrators",
    "levels",
    "networks",
    "plan",
    "preset",
    "sample",
    "splitting",
    "studies",
    "target",
]

__version__ = VERSION
