"""Networks: image score models as targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from uldnum.extras import require
from uldnum.names import unknown
from uldnum.networks.onnx_score import NetworkLevel, OnnxScore

__all__ = ["NETWORKS", "Card", "NetworkLevel", "OnnxScore", "card", "network"]


class Card(NamedTuple):
    """What is known of a network of the catalogue.

    Attributes
    ----------
    fetch : callable
        Cache folder -> path of the ONNX model in it, made when absent.
    source, licence : str
        Where it comes from, and what its authors say of its use.
    sigma, h : float
        Noise level of a single-level chain, and its step size in units of sigma, unless others are asked for.
    data : str
        What one unit of an image means.
    display : (float, float)
        Values of an image that are drawn darkest and brightest.
    """

    fetch: Callable[[Path], Path]
    source: str
    licence: str
    sigma: float
    h: float
    data: str
    display: tuple[float, float]


def fetch_galaxygrad(cache: Path) -> Path:
    """Fetch the HSC network of galaxygrad; its module needs the onnx package only when it converts."""
    from uldnum.networks.galaxygrad import fetch

    return fetch(cache)


NETWORKS = {
    "galaxygrad-hsc32": Card(
        fetch_galaxygrad,
        source="galaxygrad 0.2.1 on PyPI: score of 32 x 32 images of galaxies (Hyper Suprime-Cam), MLP-Mixer, VP SDE",
        licence="none stated: nothing of it is distributed with this package, it is fetched for you",
        # Chosen by eye. At h = 2 sigma the step of baoab-limit mirrors an error of the flat background (its score is
        # -x/sigma^2) without damping it, and some chains run away; delta = sigma^2 forgets it in one step.
        sigma=0.7,
        h=math.sqrt(2),
        data="log(flux + 1)/0.1",
        display=(0, 10 * math.log(2)),  # up to flux 1, the peak of a galaxy
    ),
}


def card(name: str) -> Card:
    """Return what is known of a network of the catalogue; an unknown name answers with the nearest."""
    if name.lower() not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    return NETWORKS[name.lower()]


def network(name: str) -> OnnxScore:
    """Return a network of the catalogue, fetching it on first use to the user's cache folder.

    Raises
    ------
    ValueError
        If there is no such network.
    MissingExtraError
        If the extra ``onnx`` is not installed.
    RuntimeError
        If it cannot be fetched.
    """
    found = card(name)
    cache = require("platformdirs", "onnx").user_cache_path("uldnum")
    return OnnxScore(found.fetch(cache), name.lower())
