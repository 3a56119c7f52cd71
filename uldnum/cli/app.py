"""The application: commands ``list``, ``doctor``, ``fetch``, ``bias``, ``mixing``, ``frontier``, ``advise``, ..."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from uldnum._util.extras import MissingExtraError
from uldnum._util.names import printable
from uldnum.cli.anneal import anneal
from uldnum.cli.bias import bias
from uldnum.cli.common import interrupted
from uldnum.cli.listing import doctor, fetch, list_
from uldnum.cli.quality import quality
from uldnum.cli.sample import sample
from uldnum.cli.studies import advise, frontier, mixing
from uldnum.version import VERSION

__all__ = ["main"]


class Commands(TyperGroup):
    """Group of commands. Ctrl-C ends a command with a one-line message."""

    def invoke(self, context: Any) -> Any:
        """Run the requested command."""
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            interrupted()


# Maximum number of characters of an error or a warning.
LONGEST = 2000

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Langevin integrators for sampling, measured against exact answers. "
    "Start with 'uldnum list', then 'uldnum bias', then 'uldnum sample'. "
    "'uldnum COMMAND --help' describes the options of a command and gives examples.",
)


def print_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        typer.echo(f"uldnum {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Accept the options that precede a command."""


app.command("list")(list_)
for command in (doctor, fetch, bias, mixing, frontier, advise, sample, anneal, quality):
    app.command()(command)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line."""
    typer.secho(f"warning: {printable(str(message), LONGEST)}", err=True, fg="yellow")


def main() -> None:
    """Run the command line. After an error, print it as one line without a traceback, and exit with status 2."""
    warnings.showwarning = show_warning
    try:
        app()
    except (ValueError, MissingExtraError, RuntimeError, OSError, MemoryError) as error:
        # Paths, and names in files from others, may contain control sequences of the terminal.
        text = printable(str(error), LONGEST)
        typer.secho(f"error: {text or 'out of memory; use fewer chains'}", err=True, fg="red")
        sys.exit(2)
