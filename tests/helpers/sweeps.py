"""A small study, and tasks that record in a file when they are computed."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import uldnum

SWEEP = {"h": [0.3, 0.5, 0.8], "friction": [0.5, 2.0], "nfe": 300, "burn_in": 20, "chains": 64, "progress": False}
NAMES = ["ula", "BAOAB", "UBU"]


def study(**options):
    return uldnum.studies.frontier("ring-8", NAMES, **SWEEP | options)


@dataclass(frozen=True)
class Square:
    """A task that lasts ``pause`` seconds and appends a line to the file ``diary`` when it is computed."""

    number: int
    diary: str
    pause: float = 0.0

    @property
    def key(self):
        return f"square-{self.number}"

    @property
    def parameters(self):
        return {"number": self.number}

    def result(self):
        time.sleep(self.pause)
        with open(self.diary, "a", encoding="utf-8") as file:
            file.write(f"{self.number}\n")
        return {"square": self.number**2, "third": self.number / 3}


def diary_of(path):
    return [int(line) for line in Path(path).read_text(encoding="utf-8").split()] if Path(path).exists() else []


@dataclass
class Visible:
    """A task that reports which GPU its process sees; two of them meet, so that no process computes both."""

    number: int
    folder: str

    @property
    def key(self):
        return f"visible-{self.number}"

    @property
    def parameters(self):
        return {}

    def result(self):
        Path(self.folder, str(self.number)).touch()
        begun = time.monotonic()
        while len(os.listdir(self.folder)) < 2 and time.monotonic() < begun + 60:
            time.sleep(0.01)
        return {"gpu": os.environ["CUDA_VISIBLE_DEVICES"]}
