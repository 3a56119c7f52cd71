"""Files on disk are written completely or not at all, validated when read, and never lost."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import netCDF4
import numpy as np
import pytest
import xarray as xr
from helpers.sweeps import Square, diary_of

from uldnum._util import files
from uldnum.sampling.run import Run
from uldnum.studies import sweep

zarr = pytest.importorskip("zarr")

SMALL = xr.Dataset({"a": ("x", np.arange(5.0)), "b": ("y", np.arange(3))})
LARGE = xr.Dataset({"a": ("x", np.random.default_rng(0).random(400_000))})


def python(script, *arguments, **options):
    """Run a script in another process."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    path = os.pathsep.join(
        [str(Path(__file__).parent), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


# ------------------------------------------------------------------------------------------------- points of a study


def flipped(draw, text):
    """Return a text in which one digit is replaced by another."""
    place = draw.choice([i for i, letter in enumerate(text) if letter.isdigit()])
    digit = draw.choice([other for other in "0123456789" if other != text[place]])
    return text[:place] + digit + text[place + 1 :]


def alterations(texts):
    """Return invalid replacements, as bytes, for the first of the texts of a store."""
    draw, text = random.Random(0), texts[0]
    content = json.loads(text)
    result = json.dumps(content["result"])
    altered = [flipped(draw, text).encode() for _ in range(20)]
    altered += [text[: draw.randrange(1, len(text))].encode() for _ in range(8)]
    altered += [other.encode() for other in texts[1:]]
    altered += [part.encode() for part in ("[]", "{}", "null", "3", '"x"', '{"result": {}}', '{"result": [1, 2]}')]
    altered += [json.dumps({part: content[part] for part in parts}).encode() for parts in (
        ("parameters", "result"), ("key", "parameters", "result"), ("key", "result", "sha256"),
    )]  # fmt: skip
    deep = 10**6
    altered += [b"[" * deep, b'{"a":' * deep, text.replace(result, "[" * deep + "]" * deep).encode()]
    altered += [text.replace(result, number).encode() for number in ("1e999", "1" * 5000, "-" + "9" * 4301)]
    altered += [b"\xff\xfe" + text.encode(), text.encode() + b"\x80", b"\xc3" + text.encode()]
    altered += [b"", b"\0" * 100, draw.randbytes(200), draw.randbytes(len(text))]
    altered += [text.encode("utf-16"), (text + "\n").encode(), text.replace(":", ": ", 1).encode()]
    return [*altered, text.replace("result", "Result").encode()]


def test_altered_files_of_a_store_are_computed_again(tmp_path):
    """All 60 altered files are refused: each is named once, computed again and overwritten."""
    store, diary = tmp_path / "store", tmp_path / "diary"
    tasks = [Square(n, str(diary)) for n in (37, 4, 5, 6, 7, 8)]
    found = sweep(tasks, store=store, progress=False)
    paths = [store / f"{task.key}.json" for task in tasks]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    altered = alterations(texts)
    assert len(altered) == 60
    assert len(set(altered)) == 60
    diary.unlink()
    for count, content in enumerate(altered, 1):
        paths[0].write_bytes(content)
        with pytest.warns(UserWarning, match="it is computed again") as said:
            assert sweep(tasks, store=store, progress=False) == found, content[:200]
        assert len(said) == 1
        assert str(paths[0]) in str(said[0].message)
        assert diary_of(diary) == [37] * count
        assert paths[0].read_text(encoding="utf-8") == texts[0]


def test_what_is_no_file_is_computed_and_not_kept(tmp_path):
    (tmp_path / "square-3.json").mkdir()
    with pytest.warns(UserWarning, match="square-3") as said:
        assert sweep([Square(3, str(tmp_path / "diary"))], store=tmp_path, progress=False)[0]["square"] == 9
    assert len(said) == 2


def test_only_old_temporary_files_are_removed(tmp_path):
    """Temporary files that are an hour old are removed; younger ones, which may be in use, are not."""
    name = f".square-1-uldnum-{'0af1' * 8}.json"
    old, other = tmp_path / name, tmp_path / f".mine-{'0af1' * 8}.json"
    live = tmp_path / name.replace("square-1", "square-2")
    for path in (old, live, other):
        path.touch()
    before = time.time() - 3700
    os.utime(old, (before, before))
    os.utime(other, (before, before))
    sweep([Square(1, str(tmp_path / "diary"))], store=tmp_path, progress=False)
    assert not old.exists()
    assert live.exists()
    assert other.exists()
    folder = tmp_path / f".run-uldnum-{'0af1' * 8}.zarr"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "c").touch()
    os.utime(folder, (before, before))  # the file in it is young, so the folder is in use
    os.utime(folder / "a", (before, before))
    files.store(SMALL, tmp_path / "run.zarr")
    assert folder.exists()
    os.utime(folder / "a" / "c", (before, before))
    files.store(SMALL, tmp_path / "run.zarr")
    assert not folder.exists()


# ---------------------------------------------------------------------------------------------------------- datasets


DYING = """
import itertools, os, shutil, signal, sys
from pathlib import Path
import numpy as np, xarray as xr, zarr
from uldnum._util import files

folder, suffix, can_swap = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "swap"
path = folder / f"run{suffix}"
data = [xr.Dataset({"a": ("x", np.arange(5.0) + n)}) for n in range(2)]
EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}
if not can_swap:
    files.swap = lambda one, other: False


def forked(work):
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def die(steps):
    # Kill the process before operation number ``steps`` on the folder.
    left = itertools.count(steps, -1)
    def hook(event, arguments):
        if event in EVENTS and str(folder) in str(arguments) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    files.store(data[1], path)


def check(steps):
    # Loading returns the old or the new dataset, and storing over it works.
    assert any(files.load(path).identical(one) for one in data)
    if steps % 4 == 0:
        files.store(data[1], path)
        assert files.load(path).identical(data[1])


files.store(data[0], path)
files.load(path)
shutil.copytree(folder, copy := folder.with_name("copy"))
for steps in itertools.count():
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    status = forked(lambda: die(steps))
    assert not forked(lambda: check(steps)), steps
    if not status:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
print(steps)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
@pytest.mark.parametrize(("suffix", "way"), [(".nc", "swap"), (".zarr", "swap"), (".zarr", "aside")])
def test_death_at_any_step_leaves_the_old_or_the_new_dataset(tmp_path, suffix, way):
    """SIGKILL before any operation on the disk of a process that overwrites a dataset leaves one of both datasets."""
    folder = tmp_path / "folder"
    folder.mkdir()
    done = python(DYING, folder, suffix, way)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.splitlines()[-1]) > (
        20 if suffix == ".zarr" else 2
    )  # number of operations at which a process was killed


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_ctrl_c_waits_until_a_dataset_is_written(monkeypatch, tmp_path, suffix):
    name = {".nc": "to_netcdf", ".zarr": "to_zarr"}[suffix]
    write, usual = getattr(xr.Dataset, name), signal.getsignal(signal.SIGINT)

    def interrupting(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        write(*arguments, **options)

    monkeypatch.setattr(xr.Dataset, name, interrupting)
    with pytest.raises(KeyboardInterrupt):
        files.store(SMALL, tmp_path / f"run{suffix}")
    assert signal.getsignal(signal.SIGINT) is usual
    xr.testing.assert_identical(files.load(tmp_path / f"run{suffix}"), SMALL)


@pytest.fixture
def limit():
    """Limit files of this process to 100 kB, which gives the errors of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def full(tmp_path):
    """Mount a disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1M", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("disks cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def check_full(path):
    files.store(SMALL, path)
    with pytest.raises(OSError, match=f"^cannot write '{path}': ") as fault:
        files.store(LARGE, path)
    xr.testing.assert_identical(files.load(path), SMALL)
    left = [other.name for other in path.parent.iterdir() if other != path]
    assert not left or (path.suffix == ".zarr" and left[0].startswith("."))  # slow threads of Zarr may still write
    return str(fault.value)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_what_cannot_be_written_is_named_and_the_old_one_stays(tmp_path, limit, suffix):
    check_full(tmp_path / f"run{suffix}")


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_full_disk_is_named_and_the_old_one_stays(full, suffix):
    why = {".nc": r"the data need 3.05 MiB, and \d+ KiB are free on the disk$", ".zarr": "No space left on device$"}[
        suffix
    ]
    fault = check_full(full / f"run{suffix}")
    with pytest.raises(OSError, match=why):
        raise OSError(fault)


def test_room_is_checked(full):
    files.check_room(full / "run.nc", 2**19)
    files.check_room(full / "run.zarr", 2**30)  # Zarr compresses, so its size is unknown
    with pytest.raises(ValueError, match=r"^out: '.*run.nc' needs 3 GiB, but only 1 MiB are free on its disk"):
        files.check_room(full / "run.nc", 3 * 2**30)


def test_a_store_that_is_full_is_said_once(full, tmp_path):
    (full / "rest").write_bytes(b"0" * 2**20)
    tasks = [Square(n, str(tmp_path / "diary")) for n in range(5)]
    with pytest.warns(UserWarning, match="results that cannot be stored are still returned") as said:
        assert [one["square"] for one in sweep(tasks, store=full, progress=False)] == [0, 1, 4, 9, 16]
    assert len(said) == 1
    assert str(full) in str(said[0].message)


# ------------------------------------------------------------------------------------------------------------- bombs


def netcdf_bomb(path, name, chunk):
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension(name, None)
        bomb = file.createVariable(name, "f8", (name,), zlib=True, chunksizes=(chunk,))
        bomb[30 * 2**27 - 1] = 0.0


def zarr_bomb(path, name, chunk):
    group = zarr.open_group(path, mode="w")
    group.create_array(name, shape=(30 * 2**27,), chunks=(chunk,), dtype="f8", dimension_names=[name])


@pytest.mark.parametrize(("make", "suffix"), [(netcdf_bomb, ".nc"), (zarr_bomb, ".zarr")])
def test_files_that_declare_more_than_they_hold_are_refused(tmp_path, make, suffix):
    path = tmp_path / f"bomb{suffix}"
    make(path, "h", 1024)
    with pytest.raises(ValueError, match=r"declares 30 GiB of data, but has a size of [\d.]+ (KiB|bytes)$"):
        files.load(path)
    with pytest.raises(ValueError, match=r"^path: '.*' is not a saved run: .* declares 30 GiB of data"):
        Run.load(path)


def test_chunks_that_are_larger_than_their_array_count(tmp_path):
    group = zarr.open_group(tmp_path / "bomb.zarr", mode="w")
    group.create_array("a", shape=(1,), chunks=(30 * 2**27,), dtype="f8", dimension_names=["x"])
    with pytest.raises(ValueError, match="declares 30 GiB"):
        files.load(tmp_path / "bomb.zarr")


def test_a_file_larger_than_the_memory_is_refused(monkeypatch, tmp_path):
    files.store(LARGE, tmp_path / "run.nc")
    monkeypatch.setattr("uldnum._util.memory.psutil.virtual_memory", lambda: SimpleNamespace(available=2.0**20))
    with pytest.raises(ValueError, match=r"has 3.05 MiB of data, but only 1 MiB of memory are free"):
        files.load(tmp_path / "run.nc")


@pytest.mark.parametrize("content", [b"{}", b'{"node_type": "group", "zarr_format": 3}', b'{"zarr_format": 3}'])
def test_a_damaged_part_of_a_folder_of_zarr_is_an_error_and_no_warning(tmp_path, content):
    """Zarr only warns of parts that it does not recognise; `load` raises an error instead."""
    path = tmp_path / "run.zarr"
    files.store(SMALL, path)
    part = path / "a" / "zarr.json"
    part.unlink()
    (part.parent / "extra").write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises((OSError, ValueError), match=r"run\.zarr' is not a dataset: "):
            files.load(path)
    assert not said


def test_damaged_datasets_are_one_error(tmp_path):
    """Deep JSON, other formats, truncated and overwritten files raise only OSError or ValueError."""
    draw = random.Random(1)
    for suffix in (".nc", ".zarr"):
        path = tmp_path / f"run{suffix}"
        files.store(SMALL, path)
        parts = [path] if suffix == ".nc" else [part for part in path.rglob("*") if part.is_file()]
        for part in parts:
            content = part.read_bytes()
            for damaged in (b"", b"[" * 10**6, content[: len(content) // 2], draw.randbytes(300)):
                part.write_bytes(damaged)
                try:
                    found = files.load(path)
                except (OSError, ValueError):
                    continue
                assert not found.identical(SMALL)
            part.write_bytes(content)
        xr.testing.assert_identical(files.load(path), SMALL)
