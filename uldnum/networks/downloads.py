"""Networks in the user's cache folder, which a user fetched from a URL or a file and named.

Each network has a folder with its name, which holds the model, its card and the files of its weights.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from uldnum._util.arguments import shown
from uldnum._util.extras import require
from uldnum._util.files import atomic
from uldnum._util.names import printable
from uldnum._util.parsing import toml_text
from uldnum.networks.card import card_of, read_card
from uldnum.networks.model import Device, Model, weight_files

__all__ = ["fetched", "is_url", "store"]


def is_url(source: str) -> bool:
    """Return whether a source is a URL or a DOI of a file, such as ``doi:10.5281/zenodo.NUMBER/model.onnx``."""
    return source.startswith("doi:") or "://" in source


def fetched(cache: Path) -> dict[str, Path]:
    """Return the models in the cache folder by name."""
    return {path.stem: path for path in sorted((cache / "networks").glob("*/*.onnx")) if path.stem == path.parent.name}


def store(
    cache: Path, source: str, name: str | None, sha256: str | None, card: Mapping[str, Any], taken: Mapping[str, Any]
) -> Path:
    """Copy a model and its weights from a URL or a file to the cache folder, with its card, and return its path.

    Parameters
    ----------
    cache : Path
        Cache folder.
    source : str
        URL, DOI or path of an ONNX model.
    name : str, optional
        Name of the network. Default: the name of the file without its suffix.
    sha256 : str, optional
        Hash of the file, required for a URL.
    card : mapping
        Keys of the card that replace those of the file beside a local model.
    taken : mapping
        Names that other data have.

    Raises
    ------
    ValueError
        If an argument is invalid, the file does not exist, its hash is wrong, or the model or its card cannot be used.
    RuntimeError
        If the download fails.
    """
    remote = is_url(source) and not source.startswith("file://")
    path = Path(url2pathname(urlsplit(source).path) if is_url(source) else source)
    chosen = checked(path.stem if name is None else name, taken)
    if remote and sha256 is None:
        raise ValueError("sha256: must be given for a URL; the page of the file may state it")
    if not (sha256 is None or (isinstance(sha256, str) and re.fullmatch("[0-9a-fA-F]{64}", sha256))):
        raise ValueError(f"sha256: must have 64 hexadecimal digits, got {shown(sha256)}")
    if not (remote or (path.is_file() and path.suffix.lower() == ".onnx")):
        raise ValueError(f"source: must be an ONNX file that ends in .onnx, got {shown(str(path))}")
    folder = cache / "networks" / chosen
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic(folder, folder=True) as new:
        model = new / f"{chosen}.onnx"
        if remote:
            download(source, model, str(sha256))
        else:
            shutil.copyfile(path, model)
        content = model.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if sha256 is not None and digest != sha256.lower():
            raise ValueError(f"sha256: must be that of the file, {digest}, got {sha256}")
        weights = weight_files(content)
        if remote and weights:
            raise ValueError(
                f"source: the model has weights in other files ({', '.join(map(printable, weights[:3]))}); download "
                "them all, and give the path of the model"
            )
        copy_weights(path.parent, weights, new)
        beside = {} if remote else read_card(path, {})
        keys = {"source": source, "sha256": digest, **beside, **card, "name": chosen}
        model.with_suffix(".toml").write_text(toml_text(keys), encoding="utf-8")
        opened = Model(model, Device())
        known = card_of(opened.card, opened.label)
        opened.check_hash(known.sha256)
        opened.roles(known, {})  # the card must fit the inputs and outputs
    return folder / model.name


def checked(name: str, taken: Mapping[str, Any]) -> str:
    """Return a name in lower case, or raise if it cannot be the name of a folder or belongs to other data."""
    if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name)):
        raise ValueError(f"name: must be at most 100 letters, digits, dots, hyphens and underscores, got {shown(name)}")
    if name.lower() in taken or name.lower().endswith((".onnx", ".toml")):
        raise ValueError(f"name: must be that of no other network, target or data, and of no file, got {shown(name)}")
    return name.lower()


def download(url: str, path: Path, sha256: str) -> None:
    """Download a file and verify its hash."""
    pooch = require("pooch", "onnx")
    pooch.get_logger().setLevel("WARNING")
    bar = sys.stderr.isatty()
    try:
        pooch.retrieve(url, f"sha256:{sha256.lower()}", path.name, path.parent, progressbar=bar)
    except (OSError, ValueError) as error:
        raise RuntimeError(
            f"could not download {printable(url)}: {printable(' '.join(str(error).split()), 400)}"
        ) from None


def copy_weights(source: Path, files: list[str], folder: Path) -> None:
    """Copy the files of the weights of a model, which lie in the folder of the model. Links are followed."""
    for file in files:
        inside = not Path(file).is_absolute() and ".." not in Path(file).parts
        if not (inside and (source / file).is_file()):
            raise ValueError(f"source: the weights of the model must be files in its folder, got {shown(file)}")
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, folder / file)
