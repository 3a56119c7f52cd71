"""The commands ``list``, ``show``, ``doctor`` and ``fetch``: catalogue, properties, installation and downloads."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, NamedTuple

import numpy as np
import typer

from uldnum._util.arguments import shown
from uldnum._util.extras import EXTRAS, installed, require, requirements, unmet
from uldnum._util.names import unknown
from uldnum.cli.networks import CardEntries, pairs
from uldnum.schemes.catalogue import FAMILIES, CatalogueEntry, integrator
from uldnum.version import VERSION

__all__ = ["doctor", "fetch", "list_", "show"]


# What an integrator can be, and what its orders mean.
INTEGRATORS = """\
Any word in A, B and O, in B and U, or in A and K, is also an integrator, such as ABAOABA. V and R of openmmtools mean
B and A.
A step must be affine in the state, the score and normals, with coefficients that depend only on h and the friction.
Clipping and randomised midpoints therefore cannot be part of an integrator. Braces stand for a Metropolis test, as in
"O {BAB} O", which makes the stationary distribution exact (order inf).
An order is the power of h in the error of expectations at a fixed time (weak), or in the bias of x (stationary).
ULA is of order 1 in its own time step delta = h^2/2, and therefore of order 2 in h."""


class Section(NamedTuple):
    """Entries of one kind, in one table or in several.

    Attributes
    ----------
    tables : dict
        Descriptions of entries by the title of the table and by name.
    footnotes : dict
        Footnotes of entries by name; entries may share a footnote, which is then printed once.
    about : str
        Text below the last table.
    """

    tables: dict[str, dict[str, str]]
    footnotes: Mapping[str, str] = MappingProxyType({})
    about: str = ""


def sections() -> dict[str, Section]:
    """Return the entries of all kinds by the name of the kind."""
    from uldnum.diagnostics.metrics import METRICS, study_metrics
    from uldnum.networks import FEATURES, IMAGE_SETS
    from uldnum.networks import fetch as fetch_network
    from uldnum.networks.card import read_card
    from uldnum.networks.catalogue import known_networks
    from uldnum.plans.presets import PRESETS as PLANS
    from uldnum.sampling.backends import BACKENDS
    from uldnum.schemes.controlled import PIDLD
    from uldnum.schemes.controlled import SOURCE as PIDLD_SOURCE
    from uldnum.schemes.predictors import PREDICTORS
    from uldnum.targets import PRESETS

    cards = {name: entry.card or read_card(fetch_network(name), {}) for name, entry in known_networks().items()}
    return {
        "integrators": Section(
            {
                f"Integrators: {family} (orders in h: weak, stationary)": {
                    entry.signature: described(entry) for entry in entries
                }
                for family, entries in FAMILIES.items()
            },
            about=INTEGRATORS,
        ),
        "predictors": Section(
            {
                "Predictors (plans through noise levels)": {
                    entry.signature(name): entry.source for name, entry in PREDICTORS.items()
                }
            }
        ),
        "plans": Section(
            {
                "Methods of plans": {f"{PIDLD}(k_p,k_i,k_d)": PIDLD_SOURCE},
                "Plans of the literature": {name: entry.source for name, entry in PLANS.items()},
            }
        ),
        "targets": Section({"Targets": {name: preset.source for name, preset in PRESETS.items()}}),
        "metrics": Section({"Metrics of studies": {name: METRICS[name].title for name in study_metrics()}}),
        "networks": Section(
            {"Networks": {name: card["source"] for name, card in cards.items()}},
            {name: f"licence: {card['licence']}" for name, card in cards.items() if card.get("licence")},
        ),
        "images": Section(
            {"Reference images": {name: entry.source for name, entry in IMAGE_SETS.items()}},
            {name: f"licence: {entry.licence}" for name, entry in IMAGE_SETS.items()},
        ),
        "features": Section({"Features of images": FEATURES}),
        "backends": Section({"Backends": {name: purpose for name, (_, purpose) in BACKENDS.items()}}),
    }


def described(entry: CatalogueEntry) -> str:
    """Return the orders, the source and the aliases of an integrator."""
    orders = ", ".join("?" if value is None else f"{value:g}" for value in entry.order)
    names = f"; also called {', '.join(entry.aliases)}" if entry.aliases else ""
    return f"({orders})  {entry.source}{names}"


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="integrators, predictors, plans, targets, metrics, networks, images, features or backends. "
            "Default: all."
        ),
    ] = None,
    word: Annotated[
        str | None, typer.Argument(help="Show only entries that contain this word; case is ignored.")
    ] = None,
) -> None:
    """List the integrators, predictors, plans, targets, metrics, networks, images, features and backends.

    Examples: uldnum list

    uldnum list integrators

    uldnum list networks galaxy
    """
    known = sections()
    if kind is not None and kind.lower() not in known:
        raise unknown("kind", kind, known, f"The kinds are {', '.join(known)}")
    wanted = (word or "").lower()
    for section in known.values() if kind is None else [known[kind.lower()]]:
        tables = {
            title: {name: text for name, text in lines.items() if wanted in f"{name} {text}".lower()}
            for title, lines in section.tables.items()
        }
        if not any(tables.values()):
            raise ValueError(f"word: none of the {kind} contains {shown(word)}")
        for title, lines in tables.items():
            if lines:
                print_table(title, lines, section.footnotes)
        if section.about and not word:
            typer.echo(f"{section.about}\n")


def show(
    name: Annotated[
        str,
        typer.Argument(help="Name of an integrator or a plan of the literature in 'uldnum list', or a splitting word."),
    ],
    h: Annotated[float, typer.Option(help="Step size, in units of time.")] = 0.5,
    friction: Annotated[float, typer.Option(help="Friction, in units of 1/time.")] = 1.0,
) -> None:
    """Show what an integrator does in a step: formulas, cost, orders, limit of stability, exact results on N(0, 1).

    For an integrator with a Metropolis test, the exact result is the acceptance at the step size. For a plan of the
    literature, the command shows its levels.

    Examples: uldnum show BAOAB

    uldnum show QUICSORT --h 1
    """
    from uldnum.exact import acceptance, properties
    from uldnum.plans._plan import preset
    from uldnum.plans.presets import PRESETS

    if name.lower() in PRESETS:
        typer.echo(repr(preset(name)))
        return
    scheme = integrator(name)
    if not scheme.metropolised:
        typer.echo(repr(properties(scheme, h, friction=friction)))
        return
    typer.echo(repr(scheme))
    typer.echo(f"  acceptance on N(0, 1) at h = {h:g}: {float(acceptance(scheme, h=h)):.6f}, at any friction")


def print_table(title: str, lines: dict[str, str], footnotes: Mapping[str, str] = MappingProxyType({})) -> None:
    """Print a table with a title and two columns, then each footnote once."""
    typer.secho(title, bold=True)
    width = max(map(len, lines))
    marks = {note: f"[{i}]" for i, note in enumerate(dict.fromkeys(footnotes[n] for n in lines if n in footnotes), 1)}
    for name, text in lines.items():
        typer.echo(f"  {name:<{width}}  {text} {marks.get(footnotes.get(name, ''), '')}".rstrip())
    for note, mark in marks.items():
        typer.echo(f"  {mark} {note}")
    typer.echo()


def doctor() -> None:
    """Report what is installed, the backends that work, the ONNX providers, and how to install the missing extras.

    Example: uldnum doctor
    """
    typer.echo(f"uldnum {VERSION}, Python {platform.python_version()}, {platform.platform()}")
    print_table("\nBase", {one.name: unmet(one) or installed(one.name) for one in requirements()})
    print_table("Backends", {"array": "works", "numba": check_numba(), "cuda": check_cuda()})
    extras = {}
    for extra, purpose in EXTRAS.items():
        faults = [fault for fault in map(unmet, requirements(extra)) if fault]
        state = f"{', '.join(faults)}; run: pip install 'uldnum[{extra}]'" if faults else "installed"
        extras[extra] = f"{purpose}: {state}"
    print_table("Extras", extras)
    if importlib.util.find_spec("onnxruntime") is not None:
        runtime = require("onnxruntime", "onnx")
        print_table("ONNX Runtime", {runtime.__version__: ", ".join(runtime.get_available_providers())})


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
    source: Annotated[
        str,
        typer.Argument(
            help="Name of a network or of a set of images in 'uldnum list'; or the URL, the DOI or the path of an ONNX "
            "model."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the network of a URL or path, which other commands accept. Default: that of the file.",
            show_default=False,
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(help="Hash of the file of a URL or path, which is verified. A URL needs it.", show_default=False),
    ] = None,
    card: CardEntries = None,
) -> None:
    """Download a network or a set of images to the cache folder, verify its hash, and print its path.

    Other commands download what they need on first use. This command prepares a machine that will be offline. It also
    adds other ONNX models to the networks that commands know by name, with their cards: from a URL, from a DOI such as
    doi:10.5281/zenodo.NUMBER/model.onnx, or from a file, together with its weights and the card beside it.

    Examples: uldnum fetch galaxygrad-quasar72

    uldnum fetch mnist-images

    uldnum fetch model.onnx --name my-net --set parameterisation=epsilon --set scaling=ve --set condition=sigma

    uldnum sample --network my-net
    """
    from uldnum import networks

    typer.echo(networks.fetch(source, name=name, sha256=sha256, card=pairs("set", card, networks.parse_value)))
