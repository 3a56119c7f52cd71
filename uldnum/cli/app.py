"""The command line: uldnum list, doctor, fetch, bias, mixing, frontier, advise, sample, anneal."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from uldnum._util.extras import MissingExtraError
from uldnum._util.names import printable
from uldnum.cli.anneal import anneal
from uldnum.cli.bias import bias
from uldnum.cli.common import interrupted
from uldnum.cli.listing import doctor, fetch, list_
from uldnum.cli.sample import sample
from uldnum.cli.studies import advise, frontier, mixing

__all__ = ["main"]


class Commands(TyperGroup):
    """The commands: Ctrl-C ends each of them in one line."""

    def invoke(self, context: Any) -> Any:
        """Run the command that was given."""
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            interrupted()


# Letters of an error or a warning, at most.
LONGEST = 2000

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Langevin integrators for sampling, measured against exact answers. "
    "Start with 'uldnum list', then 'uldnum bias', then 'uldnum sample'.",
)
app.command("list")(list_)
for command in (doctor, fetch, bias, mixing, frontier, advise, sample, anneal):
    app.command()(command)


def say(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as one line."""
    typer.secho(f"warning: {printable(str(message), LONGEST)}", err=True, fg="yellow")


def main() -> None:
    """Run the command line: what is wrong is said in one line, without a traceback."""
    warnings.showwarning = say
    try:
        app()
    except (ValueError, MissingExtraError, RuntimeError, OSError, MemoryError) as error:
        # Names in files that others wrote, and paths, may hold what a terminal would obey.
        text = printable(str(error), LONGEST)
        typer.secho(f"error: {text or 'out of memory; take fewer chains'}", err=True, fg="red")
        sys.exit(2)
