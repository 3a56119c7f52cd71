"""The options of commands that open a network."""

from __future__ import annotations

from inspect import signature
from typing import Annotated, Any

import numpy as np
import typer

from uldnum._util.typing import Array
from uldnum.cli.options import count, with_options

__all__ = ["device_of", "with_network_options"]

# Heading of these options in the help text of a command.
PANEL = "Options of networks"


def network_options(
    card: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Entry of the network's card, in TOML syntax. The option may be repeated.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=FILE.npy",
            help="Array for another input of the model, with one row for all chains or one row for each chain. The "
            "option may be repeated.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    unconditional: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.npy",
            help="Unconditional value of an input of the model, for classifier-free guidance. The option may be "
            "repeated.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Weight of classifier-free guidance. Default: 1, no guidance.", rich_help_panel=PANEL),
    ] = None,
    clip: Annotated[
        bool,
        typer.Option(
            "--clip", help="Clip denoised images to the range of the data in every step.", rich_help_panel=PANEL
        ),
    ] = False,
    chunk: Annotated[
        int | None, count("Maximum number of images in one call of the network. Default: 64.", panel=PANEL)
    ] = None,
) -> dict[str, Any]:
    """Return the keyword arguments of `uldnum.networks.network` that the options state."""
    from uldnum.networks import parse_value

    found = {
        "card": pairs("set", card, parse_value),
        "inputs": pairs("input", inputs, load_array),
        "unconditional": pairs("unconditional", unconditional, load_array),
        "guidance": guidance,
        "clip": clip or None,
        "chunk": chunk,
    }
    return {name: value for name, value in found.items() if value is not None}


# Decorator that adds these options to a command. The command receives the result of `network_options` as ``opening``.
with_network_options = with_options("opening", signature(network_options, eval_str=True).parameters, network_options)


def device_of(backend: str | None) -> str:
    """Return the device on which the network of a run on a backend must be."""
    return "cuda" if backend in ("cuda", "cuda-fast") else "cpu"


def pairs(option: str, texts: list[str] | None, read: Any) -> dict[str, Any] | None:
    """Return the names and values of options of the form NAME=VALUE, or None if there are none."""
    found = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{option}: must be NAME=VALUE, got {text!r}")
        found[name.strip()] = read(value)
    return found or None


def load_array(path: str) -> Array:
    """Return the array in a file of NumPy's format."""
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"input: {path!r} is not an array in NumPy's format (.npy): {error}") from None
