"""The commands ``uldnum list``, ``uldnum doctor`` and ``uldnum fetch``: catalogue, installation and downloads."""

from __future__ import annotations

import importlib.util
import platform
from typing import Annotated

import numpy as np
import typer

from uldnum._util.extras import EXTRAS, distributions, installed, require
from uldnum.schemes.catalogue import integrators as catalogue
from uldnum.version import VERSION

__all__ = ["doctor", "fetch", "list_"]


def list_() -> None:
    """List the integrators, predictors, plans, targets, metrics, networks and backends, with their sources.

    Example: uldnum list
    """
    from uldnum.diagnostics.metrics import METRICS, study_metrics
    from uldnum.networks import NETWORKS
    from uldnum.plans.presets import PRESETS as PLANS
    from uldnum.sampling.backends import BACKENDS
    from uldnum.schemes.predictors import PREDICTORS
    from uldnum.targets import PRESETS

    def order(value: float | None) -> str:
        return "?" if value is None else f"{value:g}"

    lines = {entry.signature: f"({', '.join(map(order, entry.order))})  {entry.source}" for entry in catalogue()}
    lines["any word"] = "        of the letters A, B and O, or of B and U, is also an integrator, for example ABAOABA"
    show("Integrators (orders in h: weak, stationary)", lines)
    show("Predictors (plans through noise levels)", {name: entry.source for name, entry in PREDICTORS.items()})
    show("Plans of the literature", {name: entry.source for name, entry in PLANS.items()})
    show("Targets", {name: preset.source for name, preset in PRESETS.items()})
    show("Metrics of studies", {name: METRICS[name].title for name in study_metrics()})
    show(
        "Networks",
        {name: f"{entry.card['source']}; licence: {entry.card['licence']}" for name, entry in NETWORKS.items()},
    )
    show("Backends", {name: purpose for name, (_, purpose) in BACKENDS.items()})


def show(title: str, lines: dict[str, str]) -> None:
    """Print a table with a title and two columns."""
    typer.secho(title, bold=True)
    width = max(map(len, lines))
    for name, text in lines.items():
        typer.echo(f"  {name:<{width}}  {text}")
    typer.echo()


def doctor() -> None:
    """Report what is installed, which backends and ONNX providers work, and how to install the missing extras.

    Example: uldnum doctor
    """
    typer.echo(f"uldnum {VERSION}, Python {platform.python_version()}, {platform.platform()}")
    show("\nBase", {name: installed(name) for name in distributions()})
    show("Backends", {"array": "works", "numba": check_numba(), "cuda": check_cuda()})
    extras = {}
    for extra, purpose in EXTRAS.items():
        missing = [name for name in distributions(extra) if installed(name) == "missing"]
        state = f"missing {', '.join(missing)}; run: pip install 'uldnum[{extra}]'" if missing else "installed"
        extras[extra] = f"{purpose}: {state}"
    show("Extras", extras)
    if importlib.util.find_spec("onnxruntime") is not None:
        runtime = require("onnxruntime", "onnx")
        show("ONNX Runtime", {runtime.__version__: ", ".join(runtime.get_available_providers())})


def check_numba() -> str:
    """Compile and run a small function, and return a line that reports success or the error."""
    try:
        import numba

        numba.njit(lambda value: value + 1)(1)
        return f"works, {numba.get_num_threads()} threads"
    except Exception as error:  # the user wants to know of every failure, whatever its class
        return f"fails: {error}"


def check_cuda() -> str:
    """Run a few chains on the GPU, if there is one, and return a line that reports the device or the error."""
    try:
        from uldnum import sample
        from uldnum.kernels.cuda.device import cache_folder, device

        found = device().describe()
        runs = [
            sample("ring-8", "BAOAB", h=0.2, steps=20, chains=8, backend=backend, progress=False)
            for backend in ("cuda", "numba")
        ]
        same = "the same bits as" if np.array_equal(runs[0].x, runs[1].x) else "NOT the same bits as"
        kernels = len(list(cache_folder().glob("*.ptx")))
        return f"works, {same} 'numba'; {found}; {kernels} compiled kernels in {cache_folder()}"
    except Exception as error:  # the user wants to know of every failure, whatever its class
        return f"does not work: {error}"


def fetch(
    name: Annotated[str, typer.Argument(help="Name of a network in 'uldnum list'.")],
) -> None:
    """Download a network of the catalogue to the cache folder, verify its hash, and print its path.

    Other commands download a network on first use. This command prepares a machine that will be offline.

    Example: uldnum fetch galaxygrad-quasar72
    """
    from uldnum import networks

    typer.echo(networks.fetch(name))
