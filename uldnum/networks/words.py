"""Words of diffusers in the keys and values of cards, and lines that users can copy to mend a card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uldnum._util.arguments import shown
from uldnum.networks.forms import CONDITIONS, PARAMETERISATIONS, SCALINGS
from uldnum.networks.spacings import SPACINGS
from uldnum.plans.schedules import SCHEDULES

__all__ = ["BETAS", "EXAMPLES", "KEYS", "PREDICTIONS", "example", "line", "translated"]

# Values in diffusers, and their names in this package.
PREDICTIONS = {"epsilon": "epsilon", "sample": "denoiser", "v_prediction": "v", "flow_prediction": "velocity"}
BETAS = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}

# Keys in diffusers, and their places in a card: a key, or a table and a key in this table.
KEYS = {
    "prediction_type": ("", "parameterisation"),
    "beta_schedule": ("schedule", "kind"),
    "beta_start": ("schedule", "beta_start"),
    "beta_end": ("schedule", "beta_end"),
    "num_train_timesteps": ("schedule", "timesteps"),
    "trained_betas": ("schedule", "values"),
    "rescale_betas_zero_snr": ("schedule", "zero_terminal_snr"),
    "timestep_spacing": ("spacing", "kind"),
    "steps_offset": ("spacing", "offset"),
}

# Places of names in a card: the names of this package, and other words for them.
NAMES: dict[tuple[str, str], tuple[Mapping[str, Any], Mapping[str, str]]] = {
    ("", "parameterisation"): (PARAMETERISATIONS, PREDICTIONS),
    ("", "scaling"): (SCALINGS, {}),
    ("", "condition"): (CONDITIONS, {}),
    ("schedule", "kind"): (SCHEDULES, BETAS),
    ("spacing", "kind"): (SPACINGS, {}),
}

# A valid schedule of each kind.
EXAMPLES: dict[str, dict[str, Any]] = {
    "linear": {"beta_start": 0.0001, "beta_end": 0.02, "timesteps": 1000},
    "scaled-linear": {"beta_start": 0.00085, "beta_end": 0.012, "timesteps": 1000},
    "cosine": {"timesteps": 1000},
    "vp-sde": {"beta_start": 0.1, "beta_end": 20.0},
    "sub-vp": {"beta_start": 0.1, "beta_end": 20.0},
    "geometric": {"first": 50.0, "last": 0.01, "timesteps": 232},
    "karras": {"first": 80.0, "last": 0.002},
    "flow": {},
    "betas": {"values": [0.1, 0.2, 0.3]},
    "alphas-cumprod": {"alphas_cumprod": [0.9, 0.7, 0.4]},
    "table": {"ratio": [50.0, 1.0, 0.01]},
}

# The kind of schedule that is most common for each scaling.
USUAL = {"ve": "geometric", "vp": "linear", "sub-vp": "sub-vp", "edm": "karras", "flow": "flow"}


def line(key: str, value: Any) -> str:
    """Return a key of a card and its value, as an option of the shell and in Python."""
    text = in_toml(value)
    return f"--set {key}={text if isinstance(value, str) else repr(text)} (in Python card={{{key!r}: {value!r}}})"


def in_toml(value: Any) -> str:
    """Return a value in TOML notation, where a string that stands alone has no quotes."""
    if isinstance(value, Mapping):
        inner = (f'{key} = "{one}"' if isinstance(one, str) else f"{key} = {one}" for key, one in value.items())
        return f"{{{', '.join(inner)}}}"
    return str(value)


def example(scaling: str, kind: str = "") -> str:
    """Return the line of a schedule of a given kind, or of the usual kind for a scaling."""
    found = kind if kind in EXAMPLES else USUAL[scaling]
    return line("schedule", {"kind": found} | EXAMPLES[found])


def translated(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a card in the words of this package.

    Keys and values may be those of a scheduler of diffusers, for example
    ``{"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}``. Names may
    have underscores in place of hyphens. A key of diffusers whose value is None is ignored, as in diffusers.

    Raises
    ------
    ValueError
        If a key is given twice, in both vocabularies, or a table is no table.
    """
    entries: list[tuple[str, str, str, Any]] = []  # the key as it was given, its table, its key, its value
    tables = []
    for key, value in given.items():
        if key in ("schedule", "spacing") and isinstance(value, Mapping):
            tables.append(key)
            entries += [(inner, *place_of(key, inner), one) for inner, one in value.items()]
        else:
            entries.append((key, *place_of("", key), value))
    found: dict[str, Any] = {key: {} for key in tables}
    sources: dict[tuple[str, str], str] = {}
    for source, table, key, value in entries:
        if source in KEYS and value is None:
            continue
        if (table, key) in sources:
            raise ValueError(f"{key}: must be given once, got {sources[table, key]} and {source}")
        sources[table, key] = source
        part = found.setdefault(table, {}) if table else found
        if not isinstance(part, dict):
            raise ValueError(f"{table}: must be a table, got {shown(part)}")
        part[key] = renamed(table, key, value)
    return without_unused(found, sources)


def place_of(table: str, key: str) -> tuple[str, str]:
    """Return the table and the key of an entry, which may be a key of diffusers at the top or in its table."""
    place = KEYS.get(key) if isinstance(key, str) else None
    return place if place and table in ("", place[0]) else (table, key)


def renamed(table: str, key: str, value: Any) -> Any:
    """Return the name of this package for a value that is a name of diffusers, or is written with underscores."""
    names, words = NAMES.get((table, key), ({}, {}))
    if not isinstance(value, str) or value in names:
        return value
    hyphens = value.replace("_", "-")
    return words.get(value, hyphens if hyphens in names else value)


def without_unused(card: dict[str, Any], sources: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Return a card without the entries that a scheduler of diffusers has and does not use."""

    def drop(table: str, *keys: str) -> None:
        for key in keys:
            if sources.get((table, key)) in KEYS:
                del card[table][key]

    if sources.get(("schedule", "values")) == "trained_betas":
        drop("schedule", "kind", "beta_start", "beta_end", "timesteps")
        card["schedule"] = {"kind": "betas"} | card["schedule"]
    elif kind_of(card, "schedule") == "cosine":
        drop("schedule", "beta_start", "beta_end")
    if kind_of(card, "spacing") in ("linspace", "trailing"):
        drop("spacing", "offset")
    return card


def kind_of(card: Mapping[str, Any], table: str) -> Any:
    """Return the kind of a table of a card, or None if the card has no such table."""
    return card[table].get("kind") if isinstance(card.get(table), Mapping) else None
