"""uldnum: what discretisation does to Langevin sampling, measured and exact.

>>> import uldnum
>>> target = uldnum.GaussianMixture(weights=[0.7, 0.3], means=[[1.5], [-1.5]], variances=[1.0, 1.0])
>>> run = uldnum.sample(target, "BAOAB", h=0.4, steps=1000, burn_in=100, chains=256, seed=1)
>>> run.mean.shape, run.nfe
((1,), 1101)

Names are imported when they are first used, so that ``import uldnum`` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uldnum import diagnostics, exact, networks, studies, targets
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
    "preset",
    "sample",
    "splitting",
    "step",
    "studies",
    "target",
    "targets",
]

# The modules that names come from, other than packages.
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
    """Import a public name when it is first used."""
    if name == "__version__":
        return import_module("uldnum.version").VERSION
    if name not in __all__:
        raise AttributeError(f"module 'uldnum' has no attribute {name!r}")
    if name not in HOMES:
        return import_module(f"uldnum.{name}")
    globals()[name] = found = getattr(import_module(f"uldnum.{HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
