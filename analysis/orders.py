"""Page: weak and stationary orders of the integrators in the catalogue, measured without sampling."""

from __future__ import annotations

from pathlib import Path

import uldnum
from uldnum._util.files import atomic
from uldnum.exact import measured_orders

# Integrators with a parameter are measured at a value for which the order is that of a generic value.
# Those with a Metropolis test have no bias, and their weak order is not measured.
NAMES = [
    f"{entry.name}(0.5)" if entry.parameter else entry.name for entry in uldnum.integrators() if not entry.metropolised
]
PAGE = Path(__file__).parent / "orders.md"

TEXT = """# Orders of the catalogue

*Written by `python -m analysis orders`.*

Orders are powers of h. The measured order is the slope of the error between a step size and its half, computed
without sampling (`uldnum.exact.measured_orders`). The weak order is that of the distribution after unit time on a
Gaussian. The stationary order is that of the bias of E[x^2] on the mixture `bimodal-1d`, and, for schemes with more
than two rows, on a quartic perturbation of a Gaussian. The tests compare each with the order that the catalogue states.

| integrator | weak: stated | measured | stationary: stated | measured |
|---|---|---|---|---|
{lines}

An order of 0 means that the error does not decrease with the step size; see [temperature.md](temperature.md).
"""


def line(name: str) -> str:
    """Return the table row of one integrator."""
    stated, measured = uldnum.integrator(name).order, measured_orders(name)
    columns = (f"{was:g} | {found:.2f}" for was, found in zip(stated, measured, strict=True) if was is not None)
    return f"| `{name}` | {' | '.join(columns)} |".replace("-0.00", "0.00")


def main() -> None:
    """Measure the orders of all integrators and write the page."""
    with atomic(PAGE) as file:
        file.write_text(TEXT.format(lines="\n".join(map(line, NAMES))), encoding="utf-8")
