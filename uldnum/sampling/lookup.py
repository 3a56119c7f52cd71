"""Lookup of the data of a plan, by name or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uldnum._util.arguments import file_path
from uldnum._util.names import unknown
from uldnum.targets import PRESETS
from uldnum.targets import target as find_target

__all__ = ["find_data"]


def find_data(name: str | Path, device: str = "cpu") -> Any:
    """Return a mixture or a network by name or from a file; ``device`` is where a network runs.

    Raises
    ------
    ValueError
        If the name is unknown. The message suggests a similar name.
    """
    from uldnum.networks import NETWORKS, network

    text = str(file_path("data", name))
    if text.lower() in PRESETS or text.endswith(".toml"):
        return find_target(text)
    if text.lower() in NETWORKS or text.lower().endswith(".onnx") or Path(text).exists():
        return network(text, device=device)
    raise unknown("data", text, [*PRESETS, *NETWORKS])
