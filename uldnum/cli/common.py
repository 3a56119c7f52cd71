"""What commands share."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

__all__ = ["Scheduler", "Seed", "interrupted"]

Seed = Annotated[int, typer.Option(help="64-bit key of all random numbers.")]

Scheduler = Annotated[
    str | None, typer.Option(help="Compute on the workers of this Dask scheduler: tcp://HOST:PORT (extra 'cluster').")
]


def interrupted(outcome: str) -> NoReturn:
    """End after Ctrl-C, as shells expect."""
    typer.secho(f"interrupted: {outcome}", err=True)
    raise typer.Exit(130)
