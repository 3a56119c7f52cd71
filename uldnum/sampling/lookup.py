"""Lookup of the data of a plan, by name or from a file, and of the levels of a plan for these data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uldnum._util.arguments import file_path, shown
from uldnum._util.names import unknown
from uldnum._util.parsing import whole
from uldnum.plans import levels as families
from uldnum.plans.levels import Levels
from uldnum.targets import PRESETS, DataMixture, Law
from uldnum.targets import target as find_target

__all__ = ["find_data", "find_levels"]


def find_data(name: str | Path, **options: Any) -> Any:
    """Return a mixture, a network or a data set by name, or a mixture or a network from a file.

    Parameters
    ----------
    name : str or Path
        Name, or path of a file. ``NAME:COUNT`` stands for the first COUNT training images of a set of images.
    **options
        Arguments of `uldnum.networks.network`.

    Raises
    ------
    ValueError
        If the name is unknown (the message suggests a similar name), or there are options other than ``device`` and the
        name is not that of a network.
    """
    from uldnum.networks import IMAGE_SETS, network
    from uldnum.networks.catalogue import known_networks

    text = str(file_path("data", name))
    images, _, count = text.partition(":")
    mixture = text.lower() in PRESETS or text.endswith(".toml")
    networks = known_networks()
    if not mixture and (text.lower() in networks or text.lower().endswith(".onnx") or Path(text).exists()):
        return network(text, **options)
    if not (mixture or images.lower() in IMAGE_SETS):
        raise unknown("data", text, [*PRESETS, *networks, *IMAGE_SETS])
    if set(options) - {"device"}:
        raise ValueError(f"data: must be a network, which the options of networks need, got {shown(text)}")
    return find_target(text) if mixture else data_set(images, count)


def find_levels(text: str, law: Law) -> Levels:
    """Return noise levels from their notation, at which the score of a distribution is known.

    Parameters
    ----------
    text : str
        A notation of `uldnum.levels.parse`, or ``own:COUNT`` for the schedule of a network.
    law : Law
        The distribution.

    Returns
    -------
    Levels
        The levels. For a network that supports only integer timesteps, they are those nearest to the levels of the
        notation.

    Raises
    ------
    ValueError
        If the notation is invalid, the distribution has no schedule, or the network was not trained for a level.
    """
    family, _, count = text.partition(":")
    if family.strip() != "own":
        levels = families.parse(text)
        return levels if law.nearest is None else law.nearest(levels)
    if law.levels is None or law.time is None:
        raise ValueError(
            f"levels: own:COUNT needs a network that has a schedule, got {shown(text)} for {law.name}; "
            "use another family, such as karras:FIRST:LAST:COUNT or flow:COUNT, or give the card the key schedule"
        )
    try:
        number = whole(count)
    except ValueError as error:
        raise ValueError(f"levels: COUNT in own:COUNT {error}") from None
    return law.levels(number)


def data_set(name: str, count: str) -> DataMixture:
    """Return the empirical distribution of the first training images of a set; an empty count stands for all images."""
    from uldnum.networks import reference_images

    train = reference_images(name).train
    try:
        number = whole(count) if count else len(train)
    except ValueError as error:
        raise ValueError(f"data: COUNT in {name}:COUNT {error}") from None
    if not 0 < number <= len(train):
        raise ValueError(f"data: COUNT in {name}:COUNT must be at least 1 and at most {len(train)}, got {number}")
    return DataMixture(train[:number], f"{name.lower()}:{number}")
