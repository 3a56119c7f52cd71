"""Functions that several commands share: interrupts, storage of results, and parsing of options."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

import numpy as np
import typer

from uldnum._util.arguments import interval, positive
from uldnum._util.extras import require
from uldnum._util.interrupt import uninterrupted
from uldnum._util.names import nearest, split_name
from uldnum._util.parsing import whole
from uldnum._util.typing import Array
from uldnum.arithmetic.elementary import geomspace
from uldnum.schemes.catalogue import Integrator
from uldnum.schemes.catalogue import integrators as catalogue
from uldnum.targets.mass import ESTIMATED

if TYPE_CHECKING:
    import xarray as xr

    from uldnum.sampling.run import Run

__all__ = [
    "check_divergence",
    "compute_study",
    "explain_words",
    "interrupted",
    "naming_result",
    "parse_interval",
    "print_json",
    "protect_stopped_run",
    "run_study",
    "save_result",
    "split_names",
    "write_study",
]


def interrupted(outcome: str = "") -> NoReturn:
    """Exit after Ctrl-C with status 130, which shells expect."""
    typer.secho(f"interrupted{outcome and ': '}{outcome}", err=True)
    raise typer.Exit(130)


def protect_stopped_run(path: Path, resume: bool) -> None:
    """Raise an error if a new run would overwrite a stopped run, which the user may want to resume."""
    from uldnum.sampling.run import Run

    if resume or not path.exists():
        return
    try:
        run = Run.load(path, "out")
    except ValueError as error:
        raise ValueError(f"{error}; remove it, or choose another folder") from None
    if not run.complete:
        raise ValueError(
            f"out: {str(path)!r} holds a run that was stopped after {run.recorded_steps} of {run.steps} steps; "
            "continue it with --resume, remove it, or choose another folder"
        )


def save_result(save: Callable[[Path], None], path: Path) -> None:
    """Store a result; if that fails, store it in another folder and raise an error that names the file.

    Ctrl-C takes effect after the result is stored, and then ends the command.
    """
    try:
        with uninterrupted():
            try:
                save(path)
            except (OSError, ValueError) as error:
                raise OSError(f"{error}; {save_elsewhere(save, path.name)}") from error
    except KeyboardInterrupt:
        interrupted(f"the result is in {path}")


def save_elsewhere(save: Callable[[Path], None], name: str) -> str:
    """Store a result in the first other writable folder, and return a message that names the file."""
    for folder in (tempfile.gettempdir(), Path.cwd(), Path.home()):
        path = Path(folder) / f"uldnum-{uuid4().hex[:8]}-{name}"
        try:
            save(path)
        except (OSError, ValueError):
            continue
        return f"the result is in {path} instead"
    return "no other folder is writable either, and the result is lost"


@contextmanager
def naming_result(path: Path) -> Iterator[None]:
    """Name the file of the stored result in errors that occur later."""
    try:
        yield
    except KeyboardInterrupt:
        interrupted(f"the result is in {path}")
    except typer.Exit:
        raise
    except Exception as error:
        raise RuntimeError(f"{error or type(error).__name__}; the result is in {path}") from error


def check_divergence(run: Run, where: str) -> None:
    """Raise an error if all chains of a run diverged; ``where`` states the step sizes and a remedy."""
    if run.diverged == run.settings.chains:
        raise ValueError(f"all {run.diverged} chains diverged, the first at step {run.diverged_at}, at {where}")


def explain_words(*schemes: Integrator) -> None:
    """Describe each splitting word that is not in the catalogue, because it may be a misspelt name."""
    names = [entry.name for entry in catalogue()]
    for scheme in schemes:
        if split_name(scheme.name)[0] not in names:
            near = nearest(scheme.name, names)
            hint = "" if near is None else f" (the nearest is {near})"
            typer.echo(f"{scheme.name} is not in the catalogue{hint}: {scheme.source}", err=True)


# ------------------------------------------------------------------------------------------------------------- studies


def compute_study(name: str, given: dict[str, Any], scheduler: str | None, out: Path) -> Any:
    """Compute a study from the options of a command, and store its points in the folder ``points`` of the output.

    All arguments are checked before anything is written or announced.
    """
    from uldnum import studies
    from uldnum._util.files import writable_folder
    from uldnum.studies.common import StepGrid
    from uldnum.studies.configuration import LEAST_SECONDS

    require("matplotlib", "plot")
    study = getattr(studies, name)
    options = {part: given[part] for part in signature(study).parameters if part in given}
    options |= {
        part: parse_steps(part, options[part]) for part in ("h", "delta", "friction") if isinstance(options[part], str)
    }
    options["mass"] = parse_mass(options["mass"])
    options |= {"integrators": split_names(given["integrators"]), "store": out / "points"}
    chosen = study.configuration(**options)
    grid = StepGrid.of(chosen, bias=name != "mixing")
    if "chains" in options:
        grid.check(chosen)
    explain_words(*grid.schemes)
    writable_folder(out)
    with studies.scheduler(scheduler) as executor:
        if "chains" in options:
            seconds = options["exact_seconds"]
            usual = f"for as long as sampling takes, but at least {LEAST_SECONDS:g} s"
            usual = f"for {seconds:g} s" if seconds else usual
            limit = {True: "without a limit of time", "auto": usual}.get(options.get("exact", "auto"))
            last = f"; then exact values, {limit}" if limit and grid.has_exact_values else ""
            typer.echo(f"compiling the kernels, then sampling point by point{last}", err=True)
        return run_study(study, options | {"executor": executor}, out)


def run_study(study: Callable[..., Any], options: dict[str, Any], out: Path) -> Any:
    """Return a study. Ctrl-C ends the command with a message that names the folder of the finished points."""
    try:
        return study(**options)
    except KeyboardInterrupt:
        interrupted(f"the same command continues from the points in {out / 'points'}")


def write_study(study: Any, folder: Path, name: str, draw: Callable[[xr.Dataset], Any]) -> tuple[Path, Path]:
    """Store a study, draw its figure, and return the paths of both files."""
    from uldnum._util.files import store
    from uldnum.plotting import save

    data, figure = folder / f"{name}.nc", folder / f"{name}.png"
    save_result(partial(store, study), data)
    with naming_result(data):
        save(draw(study), figure)
    return data, figure


def print_json(study: Any, data: Path, figure: Path) -> None:
    """Print a study as JSON: attributes, and one record for each point. A signed bias is a list over ``axis``."""
    from xarray import apply_ufunc

    lists = {
        name: apply_ufunc(list, one, input_core_dims=[["axis"]], vectorize=True, output_dtypes=[object])
        .rename(moment="metric").reindex(metric=study.metric)
        for name, one in study.items() if "axis" in one.dims
    }  # fmt: skip
    frame = study.drop_dims(["moment", "axis"], errors="ignore").assign(lists).to_dataframe().reset_index()
    results = json.loads(frame.to_json(orient="records", double_precision=15))
    attributes = study.attrs | {"target_parameters": json.loads(study.attrs.get("target_parameters", "null"))}
    typer.echo(json.dumps({"data": str(data), "figure": str(figure), **attributes, "results": results}))


def split_names(text: str) -> list[str]:
    """Split a text at the commas outside parentheses."""
    return [name.strip() for name in re.split(r",(?![^(]*\))", text) if name.strip()]


def parse_interval(name: str, text: str | None) -> tuple[float, float] | None:
    """Return the two numbers of LOW,HIGH, or None for None."""
    try:
        return None if text is None else interval(name, [float(part) for part in text.split(",")])
    except ValueError:
        raise ValueError(f"{name}: must be LOW,HIGH with two numbers, the smaller first, got {text!r}") from None


def parse_mass(text: str | None) -> Any:
    """Return the number in a text, or an array of its comma-separated numbers. `ESTIMATED` and None are unchanged."""
    if text is None or text == ESTIMATED:
        return text
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"mass: must be a number, numbers separated by commas, or {ESTIMATED}, got {text!r}") from None
    return values[0] if len(values) == 1 else np.array(values)


def parse_steps(name: str, text: str) -> Array:
    """Return the numbers of ``first:last:count``, geometrically spaced, or of a comma-separated list."""
    try:
        if ":" not in text:
            return positive(name, [float(part) for part in text.split(",")])
        first, last, count = text.split(":")
        ends, number = positive(name, [float(first), float(last)]), whole(count)
    except ValueError as error:
        if str(error).startswith(name):
            raise
        raise ValueError(
            f"{name}: must be first:last:count, such as 0.05:1.5:12, or numbers separated by commas, got {text!r}"
        ) from None
    if number < 1:
        raise ValueError(f"{name}: the count in first:last:count must be at least 1, got {text!r}")
    return geomspace(ends[0], ends[1], number)
