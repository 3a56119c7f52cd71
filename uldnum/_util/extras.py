"""Optional dependencies: import on first use, and an error that names the missing extra."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, requires, version
from types import ModuleType

from packaging.requirements import Requirement

__all__ = ["EXTRAS", "MissingExtraError", "installed", "require", "requirements", "unmet"]

# Purpose of each extra, as the subject of an error message. pyproject.toml lists the dependencies of each.
EXTRAS = {
    "plot": "figures",
    "report": "interactive reports",
    "onnx": "image score networks",
    "onnx-gpu": "image score networks on a GPU",
    "torch": "networks that are PyTorch modules",
    "text": "prompts",
    "diffusers": "exports by diffusers and Optimum",
    "train": "training the included network",
    "zarr": "runs stored as Zarr",
    "fit": "mixtures fitted to data",
    "arviz": "diagnostics by ArviZ",
    "cuda": "kernels on a GPU",
    "arrays": "arrays of other libraries than NumPy",
    "cluster": "studies on many machines",
    "bench": "the comparison with other tools",
}


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the message names the command that installs it."""


def installed(name: str) -> str:
    """Return the version of a distribution, or "missing" if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def requirements(extra: str = "") -> list[Requirement]:
    """Return the dependencies of an extra, or of the package itself, from its metadata."""
    found = []
    for requirement in map(Requirement, requires("uldnum") or []):
        asked = not extra if requirement.marker is None else requirement.marker.evaluate({"extra": extra})
        if asked and requirement.name == "uldnum":
            found += [one for other in sorted(requirement.extras) for one in requirements(other)]
        elif asked:
            found.append(requirement)
    return found


def unmet(requirement: Requirement) -> str:
    """Return why an installed distribution does not meet a requirement; "" if it does."""
    found = installed(requirement.name)
    if found == "missing":
        return f"missing {requirement.name}"
    fits = requirement.specifier.contains(found, prereleases=True)
    return "" if fits else f"{requirement.name} {found} does not fit {requirement.specifier}"


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an extra, or raise an error with the command that installs the extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        message = f"{EXTRAS[extra]} need {error.name}, which is not installed; run: pip install 'uldnum[{extra}]'"
        raise MissingExtraError(message) from None
