"""Optional parts: imported where they are used, and named when they are missing."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, requires, version
from types import ModuleType

from packaging.requirements import Requirement

__all__ = ["EXTRAS", "MissingExtraError", "distributions", "installed", "require"]

# What each extra of the package is for; what it brings stands in pyproject.toml.
EXTRAS = {
    "plot": "figures",
    "onnx": "image score networks",
    "onnx-gpu": "image score networks on a GPU",
    "diffusers": "exports by diffusers and Optimum",
    "train": "training the shipped network",
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
    """Return the version of a distribution, or say that it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def distributions(extra: str = "") -> list[str]:
    """Return what an extra brings, or what the package itself needs, as its metadata say."""
    found = []
    for requirement in map(Requirement, requires("uldnum") or []):
        asked = not extra if requirement.marker is None else requirement.marker.evaluate({"extra": extra})
        if asked and requirement.name == "uldnum":
            found += [name for other in sorted(requirement.extras) for name in distributions(other)]
        elif asked:
            found.append(requirement.name)
    return found


def require(module: str, extra: str) -> ModuleType:
    """Import a module that an extra brings, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        message = f"{EXTRAS[extra]} need {error.name}, which is not installed; run: pip install 'uldnum[{extra}]'"
        raise MissingExtraError(message) from None
