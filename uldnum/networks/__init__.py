"""Networks: image score models in ONNX as targets."""

from __future__ import annotations

from uldnum.networks.card import Card, parse_value
from uldnum.networks.catalogue import DEFAULT, NETWORKS, fetch, network
from uldnum.networks.score import Network, NetworkLevel

__all__ = [
    "DEFAULT",
    "NETWORKS",
    "Card",
    "Network",
    "NetworkLevel",
    "fetch",
    "network",
    "parse_value",
]
