"""Processes that are interrupted, killed, or without permission to write."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from uldnum._util.interrupt import interruptible, uninterrupted

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")

ROOT = Path(__file__).parents[1]


def python(script, *arguments, **options):
    """Run a script in another process."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


IMPORTING = """
import os, signal, sys
from uldnum.cli.command import main

class Counter:
    left = int(sys.argv[1])

    def find_spec(self, name, path=None, target=None):
        Counter.left -= 1
        if not Counter.left:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Counter())
sys.argv = ["uldnum", "list"]
main()
"""


@pytest.mark.parametrize("count", [1, 30, 200, 400])
def test_ctrl_c_during_imports_is_one_line(count):
    """A real SIGINT after ``count`` modules have been imported ends the process with one line."""
    done = python(IMPORTING, count)
    assert (done.returncode, done.stderr, done.stdout) == (130, "interrupted\n", "")


def test_ctrl_c_outside_of_imports_is_one_line():
    script = """
import os, signal, sys
import uldnum.cli.app
from uldnum.cli import listing
import uldnum.cli.command

def interrupted(*_):
    os.kill(os.getpid(), signal.SIGINT)

{stop} = interrupted
sys.argv = ["uldnum", "list"]
uldnum.cli.command.main()
"""
    for stop in ("uldnum.cli.app.main", "listing.sections"):
        done = python(script.format(stop=stop))
        assert (done.returncode, done.stderr, done.stdout) == (130, "interrupted\n", "")


def test_ctrl_c_that_is_ignored_stays_so():
    """SIGINT stays ignored if it is ignored at the start, as in background jobs of a shell script."""
    script = """
import signal, sys
import uldnum.cli.app
import uldnum.cli.command
signal.signal(signal.SIGINT, signal.SIG_IGN)
uldnum.cli.app.main = lambda: None
uldnum.cli.command.main()
print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
"""
    assert python(script).stdout == "True\n"


def test_what_must_not_be_interrupted_is_not():
    usual = signal.getsignal(signal.SIGINT)
    done = []

    def work():
        for number in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            done.append(number)
        if len(done) > 3:
            raise OSError("what went wrong")

    with pytest.raises(KeyboardInterrupt), uninterrupted(), uninterrupted():
        work()
    assert done == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is usual
    with interruptible() as stopped:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            assert not stopped()
        assert stopped()
    with pytest.raises(OSError, match="what went wrong"), uninterrupted():
        work()


KILLED = """
import itertools, os, random, signal, sys, time
from pathlib import Path
import matplotlib.figure, onnxruntime, xarray as xr
from uldnum import networks
from uldnum.cli import app
from uldnum._util import files
from uldnum.sampling import launch
from uldnum.sampling.run import Run

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
options = "sample --steps 10 --every 2 --chains 2 --h 0.5 --seed 5".split()
launch.next_launch = lambda *_: 1  # one step per launch
answer = networks.NetworkLevel.answer


def slow(level, x):
    time.sleep(0.02)
    return answer(level, x)


networks.NetworkLevel.answer = slow


def command(out, operations=None):
    # Run the command in a child process that kills itself before a given operation on the disk.
    pid = os.fork()
    if pid:
        return pid
    sys.argv = ["uldnum", *options, "--out", str(out)] + ["--resume"] * (out / "run.nc").exists()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if operations is not None:
        left = itertools.count(operations, -1)

        def hook(event, arguments):
            if event in ("open", "os.rename", "os.remove") and str(out) in str(arguments) and next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
    try:
        app.main()
    except SystemExit as end:
        os._exit(end.code or 0)
    finally:
        os._exit(99)


def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


begun = time.monotonic()
assert wait(command(folder / "whole")) == 0
took = time.monotonic() - begun
out, draw, ends = folder / "killed", random.Random(3), []
for number in range(kills):
    if number % 2:  # during a write
        pid = command(out, draw.randrange(20))
    else:
        pid = command(out)
        time.sleep(draw.uniform(0.2, 1.1) * took)
        os.kill(pid, draw.choice([signal.SIGKILL, signal.SIGINT]))
    ends.append(wait(pid))
    assert ends[-1] in (0, -signal.SIGKILL, 130), ends
    if (out / "run.nc").exists():
        ends.append(f"{Run.load(out / 'run.nc').recorded_steps} steps")
assert wait(command(out)) == 0
for group in (None, "resume"):
    xr.testing.assert_identical(
        files.load(out / "run.nc", group), files.load(folder / "whole" / "run.nc", group)
    )
print(*ends, sep=", ")
"""


@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_a_sample_that_is_killed_goes_on_to_the_same_bits(tmp_path, kills):
    """After SIGKILL or Ctrl-C at random times the stored file is always a run, and resuming gives identical bits.

    Every second process kills itself before one of the about 20 operations on its folder.
    """
    pytest.importorskip("onnxruntime")
    done = python(KILLED, tmp_path, kills)
    assert done.returncode == 0, done.stderr
    assert "-9" in done.stdout


def without_privileges():
    """Drop the capabilities with which the superuser ignores file permissions, before a program starts."""
    if os.geteuid() == 0:
        library = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if library.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
                raise OSError(ctypes.get_errno(), "prctl")


READ_ONLY = """
import contextlib, io, os, sys, tempfile
from pathlib import Path
import uldnum
from uldnum.cli import app
from uldnum.sampling.run import Run
from uldnum.studies import bias

folder, spare = Path(sys.argv[1]), sys.argv[2]
tempfile.tempdir = spare
folder.chmod(0o555)


def command(*arguments):
    sys.argv = ["uldnum", *arguments, "--out", str(folder)]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            app.main()
        except SystemExit as end:
            print(end.code, said.getvalue().strip(), sep="|")


def refused(call):
    try:
        call()
    except (ValueError, OSError) as error:
        print(type(error).__name__, error, sep="|")


anneal = "anneal", "--levels", "karras:20:0.02:10", "--chains", "1"
command("bias", "--exact-only", "--target", "gaussian", "--h", "0.5")
command("sample")
command(*anneal)
refused(lambda: bias("gaussian", "ula", 0.5, store=folder))
usual = uldnum.anneal


def closing(*arguments, **options):
    # The folder becomes read-only while the command runs.
    run = usual(*arguments, **options)
    folder.chmod(0o555)
    refused(lambda: run.save(folder / "run.nc"))
    refused(lambda: run.save(folder / "run.zarr"))
    return run


uldnum.anneal = closing
folder.chmod(0o755)
command(*anneal)
(found,) = Path(spare).glob("uldnum-*-anneal.nc")
print(Run.load(found).complete, [path.name for path in folder.iterdir()])
"""


def test_a_folder_that_cannot_be_written_to(tmp_path):
    """A read-only folder is refused at the start; if it becomes read-only later, the result is stored elsewhere."""
    pytest.importorskip("onnxruntime")
    folder, spare = tmp_path / "out", tmp_path / "spare"
    folder.mkdir()
    spare.mkdir()
    try:
        done = python(READ_ONLY, folder, spare, preexec_fn=without_privileges)
    except subprocess.SubprocessError:
        pytest.skip("the superuser cannot give up privileges here")
    assert done.returncode == 0, done.stderr
    *refused, (late, why), (whole,) = [line.split("|") for line in done.stdout.splitlines()]
    closed = f"must be a writable folder, got '{folder}': Permission denied"
    assert refused[:3] == [["2", f"error: --out: {closed}"]] * 3
    assert refused[3] == ["ValueError", f"store: {closed}"]
    for suffix, fault in zip(("nc", "zarr"), refused[4:], strict=True):
        assert fault == ["ValueError", f"path: cannot write '{folder}/run.{suffix}': Permission denied"]
    assert late == "2"
    assert why.startswith(f"error: path: cannot write '{folder}/anneal.nc': Permission denied; the result is in")
    assert whole == "True []"
