"""Page: the orders of the catalogue, measured without sampling."""

from __future__ import annotations

from pathlib import Path

import uldnum
from analysis.agreement import INTEGRATORS
from uldnum._util.files import atomic
from uldnum.exact import measured_orders

PAGE = Path(__file__).parent / "orders.md"

TEXT = """# Orders of the catalogue

*Written by `python -m analysis orders`. Slopes between a step and its half, without sampling
(`uldnum.exact.measured_orders`): weak, of the law after the time of one on a Gaussian; stationary, of the bias of
E[x^2] on the mixture `bimodal-1d`. In powers of h. The tests check each against what the catalogue states.*

| integrator | weak: stated | measured | stationary: stated | measured |
|---|---|---|---|---|
{lines}

An order of 0 means that smaller steps do not help: see [temperature.md](temperature.md).
"""


def line(name: str) -> str:
    """Return the row of one integrator."""
    stated, measured = uldnum.integrator(name).order, measured_orders(name)
    columns = (f"{was:g} | {found:.2f}" for was, found in zip(stated, measured, strict=True) if was is not None)
    return f"| `{name}` | {' | '.join(columns)} |".replace("-0.00", "0.00")


def main() -> None:
    """Measure all entries and write the table."""
    with atomic(PAGE) as file:
        file.write_text(TEXT.format(lines="\n".join(map(line, INTEGRATORS))), encoding="utf-8")
