"""The API reference: pages of HTML with formulas, made from the docstrings by pdoc.

``python -m analysis reference`` writes the folder ``reference``, whose first page is ``reference/index.html``. The
pages need no network. Formulas (``.. math::`` and ``:math:``) are MathML, which browsers render themselves.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from inspect import getmembers, isclass
from pathlib import Path
from typing import Any, get_type_hints

REFERENCE = Path(__file__).parents[1] / "reference"

# The public modules. The names in their ``__all__`` are documented.
MODULES = (
    "uldnum", "uldnum.targets", "uldnum.networks", "uldnum.plans.levels", "uldnum.exact", "uldnum.diagnostics",
    "uldnum.studies", "uldnum.plotting",
)  # fmt: skip

# Formulas in the Markdown that pdoc makes of docstrings: displayed ones, and those in a line.
FORMULA = re.compile(r"\$\$(.+?)\$\$|\\\\\((.+?)\\\\\)", re.DOTALL)

# Aliases of types, which pages show by these names and not as the long types for which they stand.
ALIASES = {name: type(name, (), {"__module__": "builtins"}) for name in ("Array", "ArrayLike", "DTypeLike")}


def build(folder: Path) -> None:
    """Write the reference to a folder. Annotations of the package cannot be evaluated in this process afterwards."""
    import pdoc
    from pdoc import render, render_helpers

    import_all()
    for named_tuple in named_tuples():
        # Their constructor belongs to no module, and pdoc would not find the types of its annotations.
        named_tuple.__new__.__annotations__ = get_type_hints(named_tuple)
    render.configure(docformat="numpy", show_source=False)
    render.env.filters["to_html"] = lambda text: render_helpers.to_html(FORMULA.sub(mathml, text))
    pdoc.pdoc("uldnum", "uldnum.plans.levels", output_directory=folder)  # "uldnum" includes the packages in __all__


def import_all() -> None:
    """Import the public modules, and replace the aliases of types in all modules of the package."""
    for name in MODULES:
        module = import_module(name)
        for public in module.__all__:
            getattr(module, public)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "uldnum":
            for alias in ALIASES.keys() & vars(module):
                setattr(module, alias, ALIASES[alias])


def named_tuples() -> Iterator[Any]:
    """Yield the public named tuples."""
    for module in map(import_module, MODULES):
        for name, one in getmembers(module, isclass):
            if name in module.__all__ and issubclass(one, tuple):
                yield one


def mathml(found: re.Match[str]) -> str:
    """Return a formula as MathML."""
    from latex2mathml.converter import convert

    displayed, inline = found.groups()
    return str(convert(displayed, display="block") if displayed else convert(inline))


def main() -> None:
    """Write the reference to the folder ``reference``."""
    build(REFERENCE)
