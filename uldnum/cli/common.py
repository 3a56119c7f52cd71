"""What commands share."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

__all__ = ["Seed", "interrupted"]

Seed = Annotated[int, typer.Option(help="64-bit key of all random numbers.")]


def interrupted(outcome: str = "nothing was written") -> NoReturn:
    """End after Ctrl-C, as shells expect."""
    typer.secho(f"interrupted: {outcome}", err=True)
    raise typer.Exit(130)
