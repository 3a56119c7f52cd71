"""The application: commands ``list``, ``show``, ``doctor``, ``fetch``, ``bias``, ``mixing``, ``frontier``, ..."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from uldnum._util.extras import MissingExtraError
from uldnum._util.names import printable
from uldnum.cli.anneal import anneal
from uldnum.cli.bias import bias
from uldnum.cli.common import interrupted
from uldnum.cli.listing import doctor, fetch, list_, show
from uldnum.cli.options import in_flags
from uldnum.cli.quality import quality
from uldnum.cli.report import report
from uldnum.cli.sample import sample
from uldnum.cli.studies import advise, frontier, mixing
from uldnum.version import VERSION

__all__ = ["main"]


# Maximum number of characters of an error or a warning.
LONGEST = 2000


class Commands(TyperGroup):
    """Group of commands. It prints errors, warnings and interrupts as one line, without a traceback."""

    def invoke(self, context: Any) -> Any:
        """Run the requested command, and exit with status 2 after an error and 130 after Ctrl-C."""

        def show(kind: str, text: str, colour: str) -> None:
            # Paths, and names in files from others, may contain control sequences of the terminal.
            command = self.commands.get(context.invoked_subcommand)
            text = in_flags(text, command.params if command else [])
            typer.secho(f"{kind}: {printable(text, LONGEST)}", err=True, fg=colour)

        warnings.showwarning = lambda message, *_, **__: show("warning", str(message), "yellow")
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            interrupted()
        except (typer.Exit, typer.Abort, BrokenPipeError):  # for typer; the next clause would catch them
            raise
        except (ValueError, MissingExtraError, RuntimeError, OSError, MemoryError) as error:
            show("error", str(error) or "out of memory; use fewer chains", "red")
            raise typer.Exit(2) from None


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


def unwrapped(command: Callable[..., Any]) -> str:
    """Return the text of a command with one line for each paragraph, which the terminal breaks at its own width."""
    return cleandoc(command.__doc__ or "").replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n")


app.command("list", help=unwrapped(list_))(list_)
for command in (show, doctor, fetch, bias, mixing, frontier, advise, sample, anneal, quality, report):
    app.command(help=unwrapped(command))(command)


def main() -> None:
    """Run the command line."""
    app()
