"""Networks: the converter, the file's faults, and the same update and random stream as every other target."""

import io
import subprocess
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import uldnum
from uldnum.networks import OnnxScore, galaxygrad, network


def save(path, nodes, inputs=("x", "t"), shape=("batch", 1, 2, 2)):
    """Write a model with the usual inputs and the given nodes."""
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape if n == "x" else ["batch"]) for n in inputs]
    out = helper.make_tensor_value_info("score", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "test", info, [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def gaussian_network(tmp_path):
    """Score -x: data N(0, I), at every noise level of a variance-preserving process."""
    return OnnxScore(save(tmp_path / "gaussian.onnx", [helper.make_node("Neg", ["x"], ["score"])]), "gaussian")


@pytest.mark.parametrize("name", ["baoab-limit", "BAOAB", "OBABO", "UBU", "ula", "mild(0.5)"])
def test_a_network_gets_the_update_and_the_normals_of_a_mixture(gaussian_network, name):
    """The same four coordinates as a 2 x 2 image and as a vector; h in units of sigma and absolute."""
    sigma, common = 0.6, {"steps": 12, "chains": 5, "seed": 9, "first_chain": 2, "progress": False, "thin": 4}
    level = gaussian_network.at(sigma)
    image = uldnum.sample(level, name, h=1.0, friction=0.7, **common)
    vector = uldnum.GaussianMixture([1.0], [np.zeros(4)], [1.0])
    plain = uldnum.sample(vector, name, h=sigma, friction=0.7 / sigma, dtype="float32", **common)
    np.testing.assert_allclose(image.x.reshape(5, 4), plain.x, atol=1e-5)
    np.testing.assert_allclose(image.trace.reshape(3, 5, 4), plain.trace, atol=1e-5)
    assert image.nfe == plain.nfe
    assert image.x.shape == (5, 1, 2, 2)
    with pytest.raises(ValueError, match="images"):
        _ = image.mean


def test_groups_of_step_sizes_on_a_network(gaussian_network):
    level = gaussian_network.at(0.5)
    group = uldnum.sample(level, "OBABO", h=[0.5, 1.0], steps=6, chains=3, seed=1)
    alone = uldnum.sample(level, "OBABO", h=1.0, steps=6, chains=3, seed=1)
    np.testing.assert_array_equal(group.x[1], alone.x)


def test_a_network_that_runs_away_is_reported(tmp_path):
    growing = OnnxScore(save(tmp_path / "up.onnx", [helper.make_node("Identity", ["x"], ["score"])]), "growing")
    with pytest.warns(UserWarning, match="ula diverged at h = 2 .3 of 3 chains"):
        run = uldnum.sample(growing.at(0.9), "ula", h=2.0, steps=60, chains=3, seed=1)
    assert run.diverged == 3


def test_level_denoises_by_tweedie(gaussian_network):
    level = gaussian_network.at(0.6)
    x = level.sample(3, seed=2)
    np.testing.assert_allclose(level.denoise(x), 0.8 * x, rtol=1e-6)  # E[x0 | z] = alpha z for data N(0, I)
    np.testing.assert_array_equal(level.sample(3, seed=2)[1:], level.sample(2, seed=2, first=1))
    assert gaussian_network.time(0.6) == pytest.approx(-np.log(0.64))


@pytest.mark.parametrize("sigma", [0.0, 1.0, -1, np.nan])
def test_bad_noise_levels_are_refused(gaussian_network, sigma):
    with pytest.raises(ValueError, match="sigma: must lie between 0 and 1"):
        gaussian_network.at(sigma)


def test_files_that_are_no_such_network_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        OnnxScore(tmp_path / "none.onnx", "none")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="not a model that ONNX Runtime can read"):
        OnnxScore(tmp_path / "bad.onnx", "bad")
    neg = [helper.make_node("Neg", ["x"], ["score"])]
    with pytest.raises(ValueError, match="needs inputs x and t"):
        OnnxScore(save(tmp_path / "one.onnx", neg, inputs=("x",)), "one")
    with pytest.raises(ValueError, match="image shape must be fixed"):
        OnnxScore(save(tmp_path / "free.onnx", neg, shape=("batch", 1, "h", "w")), "free")


# ------------------------------------------------------------------------------------------------------- galaxygrad


def mixer_leaves(rng, patch=2, hidden=3, side=2, widths=(5, 7), blocks=2):
    patches = side**2
    shapes = [(hidden, 2, patch, patch), (hidden, 1, 1), (1, hidden, patch, patch), (1, 1, 1)]
    for _ in range(blocks):
        for size, width in ((patches, widths[0]), (hidden, widths[1])):
            shapes += [(width, size), (width,), (size, width), (size,)]
        shapes += [(hidden, patches)] * 2 + [(patches, hidden)] * 2
    shapes += [(hidden, patches)] * 2
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes] + [np.array(4.0)]


def mixer_score(leaves, x, t):
    """The network by its definition, one image at a time, with loops where the layers have them."""
    *weights, t1 = leaves
    arrays = iter(weights)
    conv_in, bias_in, conv_out, bias_out = (next(arrays) for _ in range(4))
    hidden, _, patch, _ = conv_in.shape
    size = x.shape[-1]
    side = size // patch
    y = np.stack([x[0], np.full_like(x[0], t / t1)])
    tokens = np.zeros((hidden, side, side))
    for i in range(side):
        for j in range(side):
            tokens[:, i, j] = np.einsum("ocij,cij->o", conv_in, y[:, i * patch :, j * patch :][:, :patch, :patch])
    y = (tokens + bias_in).reshape(hidden, -1)

    def norm(y, w, b):
        return (y - y.mean()) / np.sqrt(y.var() + 1e-5) * w + b

    def mlp(y, w1, b1, w2, b2):
        return np.maximum(y @ w1.T + b1, 0) @ w2.T + b2

    rest = list(arrays)
    while len(rest) > 2:
        block, rest = rest[:12], rest[12:]
        y = y + mlp(norm(y, *block[8:10]), *block[:4])
        y = (y.T + mlp(norm(y.T, *block[10:12]), *block[4:8])).T
    y = norm(y, *rest).reshape(hidden, side, side)
    # Equinox' transposed convolution: dilate by the stride, pad by kernel - 1, correlate with the kernel as stored.
    wide = np.zeros((hidden, side * patch + patch - 1, side * patch + patch - 1))
    wide[:, patch - 1 :: patch, patch - 1 :: patch] = y
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            out[i, j] = np.einsum("cij,cij->", conv_out[0], wide[:, i : i + patch, j : j + patch])
    return out[None] + bias_out


def test_converted_network_equals_its_definition(tmp_path):
    rng = np.random.default_rng(0)
    leaves = mixer_leaves(rng)
    onnx.save(galaxygrad.to_onnx(leaves), tmp_path / "mixer.onnx")
    net = OnnxScore(tmp_path / "mixer.onnx", "mixer")
    assert net.shape == (1, 4, 4)
    x, t = rng.normal(size=(3, 1, 4, 4)).astype(np.float32), np.array([0.1, 1.0, 4.0], np.float32)
    (score,) = net.session.run(None, {"x": x, "t": t})
    expected = np.stack([mixer_score(leaves, *pair) for pair in zip(x, t, strict=True)])
    np.testing.assert_allclose(score, expected, atol=2e-5 * np.abs(expected).max())


def test_leaves_survive_storage_and_corruption_is_refused():
    leaves = mixer_leaves(np.random.default_rng(1))
    buffer = io.BytesIO()
    for leaf in leaves:
        np.save(buffer, leaf)
    data = buffer.getvalue()
    for got, leaf in zip(galaxygrad.read_leaves(io.BytesIO(data)), leaves, strict=True):
        np.testing.assert_array_equal(got, leaf)
    for broken in (data[:-3], data[:100], data + b"junk"):
        with pytest.raises(ValueError, match="corrupt or truncated"):
            galaxygrad.read_leaves(io.BytesIO(broken))
    with pytest.raises(ValueError, match="empty"):
        galaxygrad.read_leaves(io.BytesIO(b""))
    for wrong in (leaves[:-1], leaves[:5], [*leaves[:4], leaves[5], *leaves[5:]]):
        with pytest.raises(ValueError, match="not a mixer score network"):
            galaxygrad.to_onnx(wrong)


def fake_pip(monkeypatch, content, code=0):
    """Let the download leave a wheel with this content, or fail with this code."""

    def run(command, **_):
        if content is not None:
            folder = command[command.index("--dest") + 1]
            with zipfile.ZipFile(f"{folder}/galaxygrad-0.2.1-py3-none-any.whl", "w") as wheel:
                wheel.writestr(*content)
        return subprocess.CompletedProcess(command, code, "", "ERROR: no route to the index\n")

    monkeypatch.setattr(galaxygrad.subprocess, "run", run)


@pytest.mark.parametrize(
    ("content", "code", "fault"),
    [
        (None, 1, "no route to the index"),
        (("galaxygrad/other", b""), 0, "no readable"),
        ((galaxygrad.MEMBER, b"tampered"), 0, "not the expected file"),
    ],
)
def test_a_failed_download_says_so_and_leaves_nothing(monkeypatch, tmp_path, content, code, fault):
    fake_pip(monkeypatch, content, code)
    with pytest.raises(RuntimeError, match=fault):
        galaxygrad.fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def galaxies():
    try:
        return network("galaxygrad-hsc32")
    except RuntimeError as error:
        pytest.skip(f"the network cannot be fetched here: {error}")


def test_galaxy_score_at_the_noisy_end_is_that_of_noise(galaxies):
    """At t = 10 the image is all but gone: s(x) = -x up to 5%."""
    level = galaxies.at(np.sqrt(-np.expm1(-10.0)))
    x = level.sample(64, seed=0).astype(np.float32)
    assert np.linalg.norm(level.score(x) + x) / np.linalg.norm(x) < 0.05


def test_galaxy_chain_draws_galaxies(galaxies):
    """At the card's noise level: a dark border, a bright centre. A chain that ran away, or noise, has neither."""
    card = uldnum.networks.NETWORKS["galaxygrad-hsc32"]
    level = galaxies.at(card.sigma)
    run = uldnum.sample(level, "baoab-limit", h=card.h, steps=60, chains=16, seed=0, progress=False)
    images = level.denoise(run.x)[:, 0]
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert np.sqrt(np.mean(border**2)) < 0.3
    assert np.median(images[:, 12:20, 12:20].max(axis=(1, 2))) > 3
    assert run.nfe == 60
