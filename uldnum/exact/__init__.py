"""Exact answers: the effect of an integrator on a target, without sampling error.

On Gaussian targets of any dimension `gaussian` gives the stationary covariance and the mixing times, `propagator` the
distribution after any number of steps, `max_stable_h` the limit of stability and `plan` the distribution after every
noise level. `acceptance` is the acceptance of steps with a Metropolis test. On any one-dimensional target
`transfer_operator` gives the stationary distribution and the spectral gap. `properties` prints what an integrator does
in a step, with its exact results on N(0, 1).
`underdamped_flow` and `overdamped_flow` are the solutions of the Langevin equations on a Gaussian, and
`measured_orders` measures orders of convergence against them.
"""

from uldnum.exact._acceptance import acceptance
from uldnum.exact._gaussian import GaussianLaw, gaussian, max_stable_h, propagator
from uldnum.exact._plan import PlanLaw, plan
from uldnum.exact._properties import Properties, properties
from uldnum.exact.flow import overdamped_flow, underdamped_flow
from uldnum.exact.orders import Orders, measured_orders
from uldnum.exact.phase_space import PhaseSpaceLaw
from uldnum.exact.stationary import ConvergenceError, UnstableError
from uldnum.exact.transfer import TransferOperator, transfer_operator

__all__ = [
    "ConvergenceError",
    "GaussianLaw",
    "Orders",
    "PhaseSpaceLaw",
    "PlanLaw",
    "Properties",
    "TransferOperator",
    "UnstableError",
    "acceptance",
    "gaussian",
    "max_stable_h",
    "measured_orders",
    "overdamped_flow",
    "plan",
    "propagator",
    "properties",
    "transfer_operator",
    "underdamped_flow",
]
