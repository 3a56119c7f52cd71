"""What an integrator does in a step, and what follows for the standard normal distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from uldnum._util.arguments import number
from uldnum._util.summary import Described, Summary
from uldnum._util.typing import Array
from uldnum.exact._gaussian import GaussianLaw, Spectrum, max_stable_h, stationary_law
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrator as find_integrator
from uldnum.schemes.stage import Affine, Step

__all__ = ["Properties", "properties"]

# Names of the rows of the state, and of the score.
ROWS, SCORE = ("x", "p", "q"), "s"


@dataclass(frozen=True, repr=False)
class Properties(Described):
    """What an integrator does in a step, and its exact results on N(0, 1).

    Attributes
    ----------
    integrator : Integrator
        The integrator.
    h, friction : float
        Step size and friction of the formulas and of the exact results.
    step : Step
        Tables of the step.
    limit : float
        Step size up to which the integrator is stable on N(0, 1).
    law : GaussianLaw
        Stationary distribution on N(0, 1).

    See Also
    --------
    properties : Function that returns this object.

    Examples
    --------
    >>> import uldnum
    >>> found = uldnum.exact.properties("BAOAB")
    >>> round(found.limit, 9)
    2.0
    """

    integrator: Integrator
    h: float
    friction: float
    step: Step
    limit: float
    law: GaussianLaw

    @property
    def position_variance(self) -> float:
        """Stationary variance of x on N(0, 1), NaN if the integrator is unstable."""
        return float(self.law.position_covariance)

    @property
    def momentum_variance(self) -> float:
        """Stationary variance of p on N(0, 1), NaN if the integrator is unstable or has no momenta."""
        return float(self.law.momentum_covariance) if self.integrator.momenta else np.nan

    @property
    def relaxation_time(self) -> float:
        """Score evaluations in which the slowest mode on N(0, 1) decays by a factor e, NaN if it is unstable."""
        return float(self.law.relaxation_time)

    @property
    def summary(self) -> Summary:
        """The summary of the integrator, its formulas in numbers, and its results on N(0, 1)."""
        known = self.integrator.summary
        results = [("stable on N(0, 1)", f"up to h = {self.limit:.6g}" if self.limit else "at no step size")]
        if np.isnan(self.position_variance):
            results.append(("on N(0, 1)", "unstable"))
        else:
            results.append(("Var(x) on N(0, 1)", f"{self.position_variance:.9g}"))
            if self.integrator.momenta:
                results.append(("Var(p) on N(0, 1)", f"{self.momentum_variance:.9g}"))
            results.append(("relaxation time", f"{self.relaxation_time:.6g} score evaluations"))
        title = f"{known.title} at h = {self.h:g}, friction {self.friction:g}"
        names = "; ".join(f"row {i} is {name}" for i, name in enumerate(ROWS[: self.step.rows]))
        usual = self.step.rows == 1 or (self.integrator.momenta and self.step.rows == 2)
        memory = [] if usual else [("memory", names)]
        return replace(known, title=title, rows=[*known.rows, *memory, *formulas(self.step), *results])


def properties(integrator: str | Integrator, h: float = 0.5, *, friction: float = 1.0) -> Properties:
    """Return what an integrator does in a step, and its exact results on the standard normal distribution.

    The command ``uldnum show`` prints the result.

    Parameters
    ----------
    integrator : str or Integrator
        Name of an integrator or splitting word, or an `Integrator`.
    h : float, default 0.5
        Step size in units of time.
    friction : float, default 1.0
        Friction in units of 1/time.

    Returns
    -------
    Properties
        It prints formulas, cost, orders, the limit of stability, variances and the relaxation time.

    Raises
    ------
    ValueError
        If the integrator is unknown, or if the step size or the friction is not a positive number.

    Notes
    -----
    In the printed formulas, s is the score at the given position, and every xi is a new standard normal. The rows x, p
    and q are the memory u of a chain, which differs from the state at the end of a step for schemes that share a score
    between two steps (`uldnum.schemes.stage`).

    Examples
    --------
    >>> from uldnum import exact
    >>> exact.properties("BAOAB")
    Integrator BAOAB at h = 0.5, friction 1
      update             B for h/2, A for h/2, O for h, A for h/2, B for h/2 (A: drift, B: kick, O:
                         thermostat); weak order 2, 1 score evaluation per step
      order in h         2 for expectations after a fixed time, 2 for the stationary distribution of x
      source             Leimkuhler & Matthews 2013, Appl. Math. Res. Express 2013:34
      one step           1 score evaluation, 2 rows, 1 normal
      evaluation 1       s at x
                         x' = x + 0.4016 p + 0.2008 s + 0.1988 xi1
                         p' = 0.6065 p + 0.3033 s + 0.7951 xi1
      stable on N(0, 1)  up to h = 2
      Var(x) on N(0, 1)  1
      Var(p) on N(0, 1)  0.9375
      relaxation time    4 score evaluations
    """
    scheme = find_integrator(integrator)
    size, gamma = number("h", h), number("friction", friction)
    step = scheme.stages(size, friction=gamma)
    law = stationary_law(scheme, np.asarray(size), np.asarray(gamma), Spectrum.of(1.0))
    return Properties(scheme, size, gamma, step, max_stable_h(scheme, friction=gamma), law)


def formulas(step: Step) -> list[tuple[str, str]]:
    """Return the formulas of each stage in numbers."""
    lines = []
    for count, stage in enumerate(step.stages, 1):
        map = stage.map
        if not all(np.all(np.isfinite(part)) for part in (stage.G, map.dA, map.b, map.C)):
            return [("formulas", "the coefficients are not finite at this step size and friction")]
        lines.append((f"evaluation {count}", f"s at {combined(stage.G, ROWS)}"))
        lines += [("", line) for line in equations(map)]
    return lines


def equations(map: Affine) -> list[str]:
    """Return the equation of each row that a map changes."""
    terms = (*ROWS[: map.rows], SCORE, *(f"xi{i + 1}" for i in range(map.normals)))
    table = np.concatenate([np.eye(map.rows) + map.dA, map.b[:, None], map.C], axis=1)
    unchanged = np.eye(*table.shape)
    return [
        f"{row}' = {combined(values, terms)}"
        for row, values, same in zip(terms, table, unchanged, strict=False)
        if not np.array_equal(values, same)
    ]


def combined(coefficients: Array, names: Sequence[str]) -> str:
    """Return a linear combination as text, such as ``x + 0.5 p - 0.1 s``, without terms that are rounding errors."""
    text, values = "", np.asarray(coefficients)
    least = 1e-14 * np.max(np.abs(values), initial=0.0)
    for value, name in zip(values.tolist(), names, strict=False):
        if abs(value) > least:
            sign = ("-" if value < 0 else "") if not text else (" - " if value < 0 else " + ")
            text += sign + (name if abs(value) == 1 else f"{abs(value):.4g} {name}")
    return text or "0"
