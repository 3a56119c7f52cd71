"""The command ``uldnum report``: one HTML file of the results in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    out: Annotated[Path, typer.Argument(help="Folder to which other commands wrote their results.")] = Path("out"),
) -> None:
    """Make an interactive report of the results in a folder.

    The command writes OUT/report.html. It shows the results of 'uldnum bias', 'mixing', 'frontier', 'quality', 'sample'
    and 'anneal' in the folder: figures with hover and with integrators that can be switched off, tables that can be
    sorted, filtered and saved as CSV, and the provenance of the results. For images along chains it has a slider. The
    file is self-contained and opens in any browser without a network connection.

    Example: uldnum report out
    """
    from uldnum.plotting.report import write_report

    typer.echo(f"report: {write_report(out)}")
