"""Image score networks as targets: ONNX models with a card that states how to use them.

`network` returns a network of the catalogue, or one from a file or folder. `Network.at` returns its score at one noise
level, which is a target for `uldnum.sample`; a `Network` itself is a data distribution for `uldnum.anneal`.
"""

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
