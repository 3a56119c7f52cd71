"""Langevin integrators for sampling, measured against exact answers.

An integrator is a table of coefficients. `sample` and `anneal` run it on a target, and `exact` computes its stationary
distribution without sampling error. For example, OBABO at step size h has the variance 1/(1 - h^2/4) instead of 1 on
the target N(0, 1):

>>> import numpy as np
>>> import uldnum
>>> round(float(uldnum.exact.gaussian("OBABO", h=1.0).position_covariance), 4)
1.3333

A run of 64 chains with any score function agrees within its standard error of 0.015:

>>> target = uldnum.UserTarget(lambda x: -x, dimension=1)
>>> run = uldnum.sample(
...     target, "OBABO", h=1.0, steps=500, burn_in=20, chains=64, x0=np.zeros((64, 1)), seed=1, progress=False
... )
>>> round(float(run.covariance[0, 0]), 3), round(float(run.covariance_error[0, 0]), 3), run.nfe
(1.334, 0.015, 521)

Targets
    `target`, `GaussianMixture`, `UserTarget`, `targets`, `networks`
Integrators
    `integrator`, `integrators`, `splitting`, `Integrator`
Plans through noise levels
    `levels`, `plan`, `preset`, `Plan`
Sampling
    `sample`, `anneal`, `step`, `Run`
Analysis
    `exact`, `diagnostics`, `studies`, `plotting`

Public names are imported on first use, so that ``import uldnum`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uldnum import diagnostics, exact, networks, plotting, studies, targets
    from uldnum.plans import levels
    from uldnum.plans._plan import Plan, plan, preset
    from uldnum.sampling._anneal import anneal
    from uldnum.sampling._sample import sample
    from uldnum.sampling._step import step
    from uldnum.sampling.run import Run
    from uldnum.schemes.catalogue import Integrator, integrator, integrators, splitting
    from uldnum.targets import GaussianMixture, UserTarget, target

    __version__: str

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
    "plotting",
    "preset",
    "sample",
    "splitting",
    "step",
    "studies",
    "target",
    "targets",
]

# Modules of the public names that are not packages.
HOMES = {
    "anneal": "sampling._anneal",
    "sample": "sampling._sample",
    "step": "sampling._step",
    "Run": "sampling.run",
    "levels": "plans",
    **dict.fromkeys(("Plan", "plan", "preset"), "plans._plan"),
    **dict.fromkeys(("GaussianMixture", "UserTarget", "target"), "targets"),
    **dict.fromkeys(("Integrator", "integrator", "integrators", "splitting"), "schemes.catalogue"),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name == "__version__":
        return import_module("uldnum.version").VERSION
    if name not in __all__:
        raise AttributeError(f"module 'uldnum' has no attribute {name!r}")
    if name not in HOMES:
        return import_module(f"uldnum.{name}")
    globals()[name] = found = getattr(import_module(f"uldnum.{HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    """Return all public names, including those that are not yet imported."""
    return sorted({*globals(), *__all__})
