"""What plans run on: the law of data without noise, and the targets that it is at noise levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uldnum.arguments import file_path, shown
from uldnum.names import unknown
from uldnum.targets import PRESETS, Law, Target
from uldnum.targets import target as find_target

__all__ = ["find_data", "level_of"]


def find_data(name: str | Path, device: str = "cpu") -> Any:
    """Return a mixture or a network by name, or from a file; a network on a device.

    Raises
    ------
    ValueError
        If there is none of this name; the message offers the nearest.
    """
    from uldnum.networks import NETWORKS, network

    text = str(file_path("data", name))
    if text.lower() in PRESETS or text.endswith(".toml"):
        return find_target(text)
    if text.lower() in NETWORKS or text.lower().endswith(".onnx") or Path(text).exists():
        return network(text, device=device)
    raise unknown("data", text, [*PRESETS, *NETWORKS])


def level_of(data: Any, alpha: float, sigma: float) -> Target:
    """Return the law of ``z = alpha x + sigma eps`` of data as a target.

    Parameters
    ----------
    data : Law
        The law of x.
    alpha, sigma : float
        The noise level.

    Raises
    ------
    ValueError
        If its law with noise is not known, or not at this level.
    """
    if not isinstance(data, Law) or data.noised is None:
        raise ValueError(
            "data: must be a GaussianMixture, a DataMixture or a network, whose law with noise is known, got "
            f"{shown(data)}"
        )
    return data.noised(alpha, sigma)
