"""Exact answers: what a scheme does to a target, without sampling error."""

from uldnum.exact._gaussian import GaussianLaw, gaussian, max_stable_h, propagator
from uldnum.exact._plan import PlanLaw, plan
from uldnum.exact.flow import overdamped_flow, underdamped_flow
from uldnum.exact.orders import Orders, measured_orders
from uldnum.exact.stationary import ConvergenceError, UnstableError
from uldnum.exact.transfer import TransferOperator, transfer_operator

__all__ = [
    "ConvergenceError",
    "GaussianLaw",
    "Orders",
    "PlanLaw",
    "TransferOperator",
    "UnstableError",
    "gaussian",
    "max_stable_h",
    "measured_orders",
    "overdamped_flow",
    "plan",
    "propagator",
    "transfer_operator",
    "underdamped_flow",
]
