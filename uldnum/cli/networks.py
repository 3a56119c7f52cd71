"""The options of commands that open a network."""

from __future__ import annotations

import textwrap
from inspect import signature
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from uldnum._util.parsing import whole
from uldnum.cli.options import count, with_options
from uldnum.networks import parse_value
from uldnum.networks.conditions import CLASS

__all__ = ["CardEntries", "Opening", "device_of", "pairs", "with_network_options"]


class Opening(NamedTuple):
    """How a command opens a network.

    Attributes
    ----------
    options : dict
        Keyword arguments of `uldnum.networks.network`.
    classes : tuple of int
        Classes of the images, which are repeated over the chains.
    prompts : tuple of str
        Texts that describe the images, which are repeated over the chains.
    """

    options: dict[str, Any]
    classes: tuple[int, ...] = ()
    prompts: tuple[str, ...] = ()

    def arguments(self, backend: str | None) -> dict[str, Any]:
        """Return the keyword arguments of a network on a backend."""
        found = self.options | {"device": device_of(backend)}
        if self.prompts:
            found["prompt"] = list(self.prompts)
        if self.classes:
            found["inputs"] = {**self.options.get("inputs", {}), CLASS: self.classes}
        return found

    @property
    def labels(self) -> list[str]:
        """Labels of the rows of a grid of images, of which each has its own condition; empty without such rows."""
        if len(self.prompts) > 1:
            return [textwrap.fill(textwrap.shorten(one, 100), 25) for one in self.prompts]
        return [f"class {one}" for one in self.classes] if len(self.classes) > 1 else []


# Heading of these options in the help text of a command.
PANEL = "Options of networks"

CardEntries = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Entry of the network's card, in TOML syntax. The option may be repeated.",
        rich_help_panel=PANEL,
    ),
]


def network_options(
    card: CardEntries = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=VALUE",
            help="Value of another input of the model: a number, or an .npy file of an array with one row for all "
            "chains, or rows that are repeated over the chains. The option may be repeated.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help="Text that describes the images, for a diffusers folder with a text encoder. The option may be "
            "repeated: the texts are repeated in order over the chains, and each text has a row of the grid of images.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    negative_prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Text of the images without the condition, for guidance.", rich_help_panel=PANEL
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Class of the images, for a class-conditional model: the value of its one integer input other than "
            "the noise level. Several classes, separated by commas, are repeated in order over the chains, and each "
            "class has a row of the grid of images.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    unconditional: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Value of such an input without the condition, for classifier-free guidance: a number, or an .npy "
            "file. The option may be repeated. The name 'class' stands for the input of --class.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            help="Weight of classifier-free guidance, which needs --unconditional or --prompt. Default: 1, which means "
            "no guidance, or with --prompt the weight of the pipeline.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    clip: Annotated[
        bool,
        typer.Option(
            "--clip", help="Clip denoised images to the range of the data in every step.", rich_help_panel=PANEL
        ),
    ] = False,
    chunk: Annotated[
        int | None,
        count("Maximum number of images in one call of the network. Default: 64, or more for vectors.", panel=PANEL),
    ] = None,
) -> Opening:
    """Return how the options open a network."""
    found = {
        "card": pairs("set", card, parse_value),
        "inputs": pairs("input", inputs, number_or_array),
        "unconditional": pairs("unconditional", unconditional, number_or_array),
        "guidance": guidance,
        "clip": clip or None,
        "chunk": chunk,
        "negative_prompt": negative_prompt,
    }
    options = {name: value for name, value in found.items() if value is not None}
    opening = Opening(options, () if classes is None else parse_classes(classes), tuple(prompts or ()))
    if len(opening.classes) > 1 and len(opening.prompts) > 1:
        raise ValueError("class, prompt: must be one class or one prompt, got several of both")
    return opening


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


def number_or_array(text: str) -> Any:
    """Return a number, or the array in a file of NumPy's format."""
    value = parse_value(text)
    if isinstance(value, int | float):
        return value
    try:
        return np.asarray(np.load(text, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"input: {text!r} is not a number, and not an array in NumPy's format (.npy): {error}"
        ) from None


def parse_classes(text: str) -> tuple[int, ...]:
    """Return the whole numbers of a text, which commas separate."""
    try:
        found = tuple(whole(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"class: {error}") from None
    if len(set(found)) < len(found):
        raise ValueError(f"class: must be different classes, got {text!r}")
    return found
