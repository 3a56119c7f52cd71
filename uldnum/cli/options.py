"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AsJson",
    "Backend",
    "BurnIn",
    "Chains",
    "Delta",
    "Integrators",
    "Nfe",
    "Out",
    "Scheduler",
    "Seed",
    "StepSizes",
    "Target",
    "Tolerance",
]

Target = Annotated[str, typer.Option(help="A target of 'uldnum list', or a TOML file.")]
Integrators = Annotated[
    str, typer.Option(help="Comma-separated names or splitting words; quote brackets: 'ULA,mild(0.5)'.")
]
StepSizes = Annotated[
    str | None,
    typer.Option(
        help="Step sizes: first:last:count (geometric), or a list. Default: 12, from 0.1 to 1.6 of the target's "
        "narrowest standard deviations."
    ),
]
Delta = Annotated[str | None, typer.Option(help="Step sizes as delta = h^2/2 instead.")]
Nfe = Annotated[int, typer.Option(min=1, help="Recorded score evaluations per chain, for every point.")]
BurnIn = Annotated[int, typer.Option(min=0, help="Score evaluations before them.")]
Chains = Annotated[int, typer.Option(min=8, help="Independent chains for each point.")]
Seed = Annotated[int, typer.Option(help="64-bit key of all random numbers.")]
Tolerance = Annotated[float, typer.Option(help="Accuracy of exact answers.")]
Backend = Annotated[
    str | None, typer.Option(help="Where to sample: numba, array, cuda or cuda-fast. Default: numba if it can.")
]
Scheduler = Annotated[
    str | None, typer.Option(help="Compute on the workers of this Dask scheduler: tcp://HOST:PORT (extra 'cluster').")
]
Out = Annotated[
    Path, typer.Option(help="Folder for results. Its subfolder 'points' keeps every point: a stopped study goes on.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of text.")]
