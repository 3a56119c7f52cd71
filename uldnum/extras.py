"""Optional parts: imported where they are used, and named when they are missing."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

__all__ = ["EXTRAS", "MissingExtraError", "installed", "require"]

# What each extra of the package is for, and the distributions it brings.
EXTRAS = {
    "plot": ("figures", ["matplotlib"]),
    "onnx": ("image score networks", ["onnxruntime", "onnx", "platformdirs"]),
    "onnx-gpu": ("image score networks on a GPU", ["onnxruntime-gpu", "onnx", "platformdirs"]),
    "diffusers": ("exports by diffusers and Optimum", ["diffusers", "transformers", "torch", "optimum-onnx"]),
    "train": ("training the shipped network", ["torch", "onnxscript"]),
    "zarr": ("runs stored as Zarr", ["zarr"]),
    "precise": ("exact answers with fifty digits", ["mpmath"]),
    "fit": ("mixtures fitted to data", ["scikit-learn"]),
    "arviz": ("diagnostics by ArviZ", ["arviz-base", "arviz-stats"]),
    "cuda": ("kernels on a GPU", ["cupy-cuda12x", "numba-cuda", "nvidia-cuda-nvcc-cu12", "platformdirs"]),
    "arrays": ("arrays of other libraries than NumPy", ["array-api-compat"]),
    "cluster": ("studies on many machines", ["distributed"]),
    "bench": ("the comparison with other tools", ["jax", "diffrax", "blackjax"]),
}


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the message names the command that installs it."""


def installed(name: str) -> str:
    """Return the version of a distribution, or say that it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def require(module: str, extra: str) -> ModuleType:
    """Import a module that an extra brings, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        purpose, _ = EXTRAS[extra]
        message = f"{purpose} need {error.name}, which is not installed; run: pip install 'uldnum[{extra}]'"
        raise MissingExtraError(message) from None
