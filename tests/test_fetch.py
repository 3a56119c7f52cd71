"""Networks that users fetch from a URL or a file: hashes, cards, weights, names, and the commands that use them."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from helpers.networks import SHAPE
from helpers.onnx_models import save_mixture
from typer.testing import CliRunner

import uldnum
from uldnum._util.parsing import parse_toml, toml_text
from uldnum.cli.app import app
from uldnum.networks import fetch, network
from uldnum.networks.catalogue import known_networks
from uldnum.sampling.lookup import find_data

# The client of HTTP leaves the socket of a failed download to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MIXTURE = uldnum.GaussianMixture([0.5, 0.3, 0.2], np.random.default_rng(0).normal(size=(3, 12)), [0.1, 0.4, 0.2])
CARD = {"parameterisation": "denoiser", "scaling": "ve", "condition": "sigma"}
ENTRIES = [part for key, value in CARD.items() for part in ("--set", f"{key}={value}")]


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def save(path, **options):
    """Write a denoiser of the mixture."""
    return save_mixture(path, MIXTURE, SHAPE, "denoiser", lambda graph, u: (u**0.0, u), **options)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the model of a mixture; the cache folder is another new folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save(tmp_path / "models" / "Mine.onnx")
    return tmp_path / "models"


@pytest.fixture
def address(folder):
    """The address of an HTTP server of the folder on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def hash_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_network_from_a_url_is_known_by_its_name(folder, address, tmp_path, monkeypatch):
    """The model is verified and stored with its card, and gives the answers of the original."""
    sha256 = hash_of(folder / "Mine.onnx")
    url = f"{address}/Mine.onnx?download=1"
    found = fetch(url, sha256=sha256.upper(), card=CARD, name="My-Net")
    assert found == tmp_path / "cache" / "uldnum" / "networks" / "my-net" / "my-net.onnx"
    assert hash_of(found) == sha256
    net, exact = network("my-net"), network(folder / "Mine.onnx", CARD)
    assert (net.name, net.card.source, net.card.sha256) == ("my-net", url, sha256)
    x = np.ones((2, *SHAPE), np.float32)
    np.testing.assert_array_equal(net.at(0.5).score(x), exact.at(0.5).score(x))
    monkeypatch.chdir(tmp_path)
    assert find_data("MY-NET").name == "my-net"
    assert fetch("my-net") == found
    assert network("my-net", {"name": "other"}).name == "other"
    with pytest.raises(ValueError, match="unknown name 'my-nat'; the nearest is 'my-net'"):
        network("my-nat")
    found.write_bytes(b"other")
    with pytest.raises(ValueError, match="my-net"):
        network("my-net")


def test_a_file_is_stored_with_its_weights_and_its_card(folder, tmp_path):
    """Keys of the call replace those of the card beside the file; a second network of a name replaces the first."""
    path = save(tmp_path / "deep" / "net.onnx", external=True)
    path.with_suffix(".toml").write_text('parameterisation = "denoiser"\nscaling = "ve"\nsigma_max = 3.0\n')
    card = {"condition": "sigma", "sigma_max": 9.0, "citation": 'a "quoted" ü'}
    found = fetch(path, card=card)
    path.unlink()
    net = network("net")
    assert (net.card.sigma_max, net.card.citation, net.name) == (9.0, 'a "quoted" ü', "net")
    assert sorted(part.name for part in found.parent.iterdir()) == ["net.onnx", "net.onnx_data", "net.toml"]
    fetch((folder / "Mine.onnx").as_uri(), name="net", card=CARD)
    assert network("net").card.sigma_max == np.inf
    assert sorted(part.name for part in found.parent.iterdir()) == ["net.onnx", "net.toml"]


@pytest.mark.parametrize(
    ("source", "options", "fault"),
    [
        ("{}/Mine.onnx", {"card": CARD}, "sha256: must be given for a URL"),
        ("{}/Mine.onnx", {"card": CARD, "sha256": "0" * 64}, "could not download http.*hash"),
        ("{}/None.onnx", {"card": CARD, "sha256": "0" * 64}, r"could not download http.*404"),
        ("{}/Mine.onnx", {"card": CARD, "sha256": "12"}, "sha256: must have 64 hexadecimal digits, got '12'"),
        ("http://127.0.0.1:9/net.onnx", {"sha256": "0" * 64}, "could not download http://127.0.0.1:9/net.onnx: "),
        ("nothing://here/net.onnx", {"sha256": "0" * 64}, "could not download nothing://here/net.onnx: "),
        ("models/Mine.onnx", {}, r"card of 'mine.onnx': must have parameterisation .*--set parameterisation="),
        ("models/Mine.onnx", {"card": CARD | {"condition": "t"}}, "card of 'mine.onnx': schedule: condition 't' needs"),
        ("models/Mine.onnx", {"card": CARD, "sha256": "0" * 64}, "sha256: must be that of the file, [0-9a-f]{64}, got"),
        (
            "models/Mine.onnx",
            {"card": CARD | {"sha256": "00"}},
            "must equal that in its card; this is a different file",
        ),
        ("models/Mine.onnx", {"card": CARD | {"image_input": "y"}}, "determine which input is the image"),
        ("models/Mine.onnx", {"card": CARD, "name": "../up"}, "name: must be at most 100 letters, digits"),
        (
            "models/Mine.onnx",
            {"card": CARD, "name": "gmm-40"},
            "name: must be that of no other network, target or data",
        ),
        ("models/Mine.onnx", {"card": CARD, "name": "MNIST"}, "name: must be that of no other network"),
        ("models/None.onnx", {"card": CARD}, "source: must be an ONNX file that ends in .onnx, got 'models/None.onnx'"),
        ("models/None.onnx", {}, "source: unknown name 'models/None.onnx'"),
        ("mnist", {"name": "mine"}, "name: must be left out for 'mnist', whose name is already known"),
        ("mnist", {"sha256": "0" * 64, "card": {}}, "sha256, card: must be left out"),
    ],
)
def test_what_cannot_be_fetched_leaves_nothing(folder, address, tmp_path, monkeypatch, source, options, fault):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, RuntimeError), match=fault) as error:
        fetch(source.format(address), **options)
    assert "\n" not in str(error.value)
    assert not [part for part in (tmp_path / "cache").rglob("*") if part.is_file()]
    assert "mine" not in known_networks()


def test_weights_outside_the_file_need_its_folder(folder, address, tmp_path):
    path = save(folder / "big.onnx", external=True)
    with pytest.raises(ValueError, match=r"source: the model has weights in other files \(big.onnx_data\); download"):
        fetch(f"{address}/big.onnx", sha256=hash_of(path), card=CARD)
    path.with_name("big.onnx_data").unlink()
    with pytest.raises(
        ValueError, match=r"source: the weights of the model must be files in its folder, got 'big\.onnx"
    ):
        fetch(path, card=CARD)
    assert list((tmp_path / "cache" / "uldnum" / "networks").iterdir()) == []


def test_commands_fetch_list_and_run_a_network(folder, address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = partial(CliRunner().invoke, app)
    options = [
        "--sha256",
        hash_of(folder / "Mine.onnx"),
        "--name",
        "my-net",
        "--set",
        "licence=MIT",
        "--set",
        "data_range=[-4, 4]",
    ]
    done = run(["fetch", f"{address}/Mine.onnx", *options, *ENTRIES])
    assert (done.exit_code, done.output.strip()) == (0, str(fetch("my-net")))
    lines = run(["list", "networks"]).output.splitlines()
    (line,) = [line for line in lines if line.split()[:1] == ["my-net"]]
    assert f"{address}/Mine.onnx" in line
    assert any("licence: MIT" in line for line in lines)
    for command in (
        ["sample", "--network", "my-net", "--sigma", "-1"],
        ["anneal", "--data", "my-net", "--levels", "own:9"],
    ):
        fault = {"sample": "error: --sigma: must be positive", "anneal": "needs a network that has a schedule"}[
            command[0]
        ]
        done = run([*command, "--out", "out"])
        assert (done.exit_code, fault in done.output) == (2, True)
    done = run(["fetch", f"{address}/Mine.onnx"])
    assert (done.exit_code, "error: --sha256: must be given for a URL" in done.output) == (2, True)


def test_toml_is_read_as_it_was_written():
    table = {
        "text": 'a "b" \\ ü\n\t', "number": 1e-5, "large": 1e300, "none": float("inf"), "whole": 3, "yes": True,
        "list": [1, 2.5, [3]], "a key": {"kind": "linear", "values": [0.1], "deep": {}}, "pair": [-1.0, 1.0],
    }  # fmt: skip
    assert parse_toml(toml_text(table)) == table
