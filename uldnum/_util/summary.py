"""Short tables that describe an object, as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from uldnum._util.names import printable
from uldnum._util.typing import Array, ArrayLike

__all__ = ["COORDINATES", "Described", "Summary", "counted", "entries", "selected", "shown_of", "with_error"]

# Largest number of rows of a table, and of coordinates of a point, that are shown.
ROWS, COORDINATES = 8, 3


@dataclass(frozen=True)
class Summary:
    """A title and a table.

    Parameters
    ----------
    title : str
        One line.
    header : sequence of str
        Names of the columns; empty for a table without a header.
    rows : sequence of sequences of str
        Cells of each row.

    Examples
    --------
    >>> from uldnum._util.summary import Summary
    >>> print(Summary("Two steps", ["h", "bias"], [["0.5", "0.1"], ["1", "0.25"]]))
    Two steps
      h    bias
      0.5  0.1
      1    0.25
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        cells = [[printable(cell) for cell in row] for row in ([self.header] if self.header else []) + [*self.rows]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([printable(self.title), *(f"  {line}".rstrip() for line in lines)])

    @property
    def html(self) -> str:
        """The table in HTML, with the title as its caption."""

        def line(tag: str, row: Sequence[str]) -> str:
            return f"<tr>{''.join(f'<{tag}>{escape(printable(cell))}</{tag}>' for cell in row)}</tr>"

        head = f"<thead>{line('th', self.header)}</thead>" if self.header else ""
        body = "".join(line("td", row) for row in self.rows)
        return f"<table><caption>{escape(printable(self.title))}</caption>{head}<tbody>{body}</tbody></table>"


class Described:
    """Base class of objects that print their summary, and show it as a table in notebooks."""

    @property
    def summary(self) -> Summary:
        """Description of the object and its results in a few lines."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return str(self.summary)

    def _repr_html_(self) -> str:
        return self.summary.html


def counted(count: int, name: str) -> str:
    """Return a number with a noun, in the plural unless the number is 1.

    Examples
    --------
    >>> from uldnum._util.summary import counted
    >>> counted(1, "step"), counted(2, "step")
    ('1 step', '2 steps')
    """
    return f"{count} {name}{'' if count == 1 else 's'}"


def selected(count: int, most: int = ROWS) -> list[int]:
    """Return the indices of at most ``most`` of ``count`` rows, evenly spaced from the first to the last.

    Examples
    --------
    >>> from uldnum._util.summary import selected
    >>> selected(3), selected(100, 4)
    ([0, 1, 2], [0, 33, 66, 99])
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def shown_of(shown: int, count: int, name: str) -> str:
    """Return the end of a title that states how many rows of a table are shown; empty if all of them are.

    Examples
    --------
    >>> from uldnum._util.summary import shown_of
    >>> shown_of(8, 30, "phase"), shown_of(8, 8, "phase")
    (', 8 of 30 phases shown', '')
    """
    return "" if shown == count else f", {shown} of {counted(count, name)} shown"


def with_error(value: float, error: float) -> str:
    """Return a number and its standard error, which is rounded to two digits.

    Examples
    --------
    >>> from uldnum._util.summary import with_error
    >>> with_error(0.123456, 0.00321), with_error(1234.5, 210.0), with_error(0.5, float("nan"))
    ('0.1235 ± 0.0032', '1230 ± 210', '0.5')
    """
    if not (math.isfinite(value) and 0 < error < math.inf):
        return f"{value:.4g}"
    digits = 1 - math.floor(math.log10(error))
    if digits < 7 and max(abs(value), error) < 1e6:
        return " ± ".join(f"{round(part, digits):.{max(digits, 0)}f}" for part in (value, error))
    size = math.floor(math.log10(abs(value))) if value else -digits
    return f"{value:.{max(1, size + digits + 1)}g} ± {error:.2g}"


def entries(values: ArrayLike, errors: ArrayLike | None = None) -> str:
    """Return the first numbers of a vector, or a single number, with their standard errors if they are given.

    Examples
    --------
    >>> from uldnum._util.summary import entries
    >>> entries(1 / 3), entries([1.0, 2.0], [0.1, 0.1]), entries([1, 2, 3, 4])
    ('0.3333', '[1.00 ± 0.10, 2.00 ± 0.10]', '[1, 2, 3, ...]')
    """
    numbers: Array = np.atleast_1d(np.asarray(values, float))
    spread = np.full(numbers.shape, np.nan) if errors is None else np.atleast_1d(np.asarray(errors, float))
    texts = [
        with_error(*pair) for pair in zip(numbers[:COORDINATES].tolist(), spread[:COORDINATES].tolist(), strict=True)
    ]
    more = [] if len(numbers) <= COORDINATES else ["..."]
    return texts[0] if len(numbers) == 1 else f"[{', '.join([*texts, *more])}]"
