"""Exact answers: what a scheme does to a target, without sampling error."""

from uldnum.exact.gaussian import GaussianLaw, gaussian, max_stable_h, propagator

__all__ = ["GaussianLaw", "gaussian", "max_stable_h", "propagator"]
