"""Image score networks as targets, features of images, and reference images.

`network` returns a network of the catalogue, or one from a file or folder. `Network.at` returns its score at one noise
level, which is a target for `uldnum.sample`; a `Network` itself is a data distribution for `uldnum.anneal`.
`reference_images` returns real images, and `features` a map of images to vectors by which sets of images are compared.
"""

from __future__ import annotations

from uldnum.networks._features import FEATURES, FeatureCard, Features, features
from uldnum.networks.card import Card, parse_value
from uldnum.networks.catalogue import DEFAULT, NETWORKS, fetch, network
from uldnum.networks.images import IMAGE_SETS, ReferenceImages, reference_images
from uldnum.networks.score import Network, NetworkLevel

__all__ = [
    "DEFAULT",
    "FEATURES",
    "IMAGE_SETS",
    "NETWORKS",
    "Card",
    "FeatureCard",
    "Features",
    "Network",
    "NetworkLevel",
    "ReferenceImages",
    "features",
    "fetch",
    "network",
    "parse_value",
    "reference_images",
]
