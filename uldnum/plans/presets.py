"""Preset plans of the literature, with the constants of their sources."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from uldnum.plans.levels import Levels, geometric, karras

__all__ = ["PRESETS", "PlanPreset"]


class PlanPreset(NamedTuple):
    """Arguments of `uldnum.plan` for a preset plan.

    Attributes
    ----------
    method : str
        Name of an integrator or predictor.
    levels : callable
        Function without arguments that returns the noise levels.
    options : dict
        Keyword arguments of `uldnum.plan`.
    source : str
        Reference that defines the plan.
    x0 : str, default "target"
        Default initial states, as in `uldnum.plans._plan.Plan`.
    """

    method: str
    levels: Callable[[], Levels]
    options: dict[str, Any]
    source: str
    x0: str = "target"


NCSN = partial(geometric, 1.0, 0.01, 10)
CIFAR10 = partial(geometric, 50.0, 0.01, 232)
CELEBA = partial(geometric, 90.0, 0.01, 500)
SCORE_SDE = partial(geometric, 50.0, 0.01, 1000)

NCSNV2 = "Song & Ermon 2020 (NCSNv2), Algorithm 1"
MILD = "Shetty et al. 2024 (MILD), Algorithm 1, from N(0, I); the published code starts from U[0, 1]"
PIDLD = "Chen et al. 2025 (PIDLD), Algorithm 1, with the gains in its code"

PRESETS = {
    "ald-cifar10": PlanPreset("ula", CIFAR10, {"steps": 5, "eps": 6.2e-6}, f"{NCSNV2}, CIFAR-10"),
    "ald-celeba": PlanPreset("ula", CELEBA, {"steps": 5, "eps": 3.3e-6}, f"{NCSNV2}, CelebA"),
    "mild-ncsn": PlanPreset(
        "mild(0.22)", NCSN, {"steps": 50, "eps": 2e-5, "denoise": False}, f"{MILD}; NCSN, T = 50, as in that code",
        "normal",
    ),
    "mild-cifar10": PlanPreset("mild(0.38)", CIFAR10, {"eps": 6.2e-6}, f"{MILD}; CIFAR-10, T = 1", "normal"),
    "mild-cifar10-5": PlanPreset(
        "mild(0.1)", CIFAR10, {"steps": 5, "eps": 6.2e-6}, f"{MILD}; CIFAR-10, T = 5", "normal"
    ),
    "mild-celeba": PlanPreset("mild(0.4)", CELEBA, {"eps": 3.3e-6}, f"{MILD}; CelebA, T = 1", "normal"),
    "pidld-cifar10": PlanPreset(
        "pidld(2,0.5,4.5)", partial(geometric, 50.0, 0.01, 100), {"eps": 6.2e-6}, f"{PIDLD}; CIFAR-10, 100 levels",
        "uniform",
    ),
    "restart-cifar10": PlanPreset(
        "heun", partial(karras, 80.0, 0.002, 18), {"restarts": [(3, 2, 0.06, 0.3)]},
        "Xu et al. 2023 (Restart), Algorithm 1, CIFAR-10 (VP), 43 evaluations; S_noise = 1",
    ),
    "pc-cifar10": PlanPreset(
        "ula", SCORE_SDE, {"snr": 0.16, "predictor": "reverse-diffusion"},
        "Song et al. 2021, Algorithms 2 and 4 (VE), CIFAR-10; corrector before predictor, norms per chain",
    ),
}  # fmt: skip
