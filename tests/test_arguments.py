"""Checks of arguments: accepted numbers, names and paths; all other values raise an error that names the argument."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import xarray as xr
from helpers.onnx_models import Graph, Value
from onnx import TensorProto, helper, numpy_helper

import uldnum
from uldnum import diagnostics, exact, levels, networks, studies
from uldnum._util.arguments import converted, file_path, whole_number
from uldnum._util.names import checked_name, nearest, printable
from uldnum._util.parsing import parse_toml
from uldnum.networks import Card
from uldnum.plotting import draw_bias, draw_frontier, draw_mixing, save
from uldnum.targets import DataMixture

HUGE = 10**400
MIXTURE = uldnum.GaussianMixture([0.6, 0.4], [[1.0], [-1.0]], [1.0, 0.5])
CARD = {"parameterisation": "score", "scaling": "ve", "condition": "none"}


# ------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int8(1), [1, 0.5], np.ones(2, int), 10**30, [10**30, 1]])
def test_integers_and_reals_are_numbers(value):
    np.testing.assert_array_equal(converted("x", value), np.array(value, float))


@pytest.mark.parametrize(
    "value",
    [None, True, [True], np.True_, 1 + 2j, np.array([1j]), "1", ["1", 2], b"1", np.datetime64("2020"),
     np.timedelta64(3, "D"), np.zeros(2, "M8[s]"), [1, [2, 3]], [1, None], object(), int, {1: 2}, (i for i in "12")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_nothing_else_is_a_number(value):
    with pytest.raises(ValueError, match=r"^x: must be a number or an array of numbers, got "):
        converted("x", value)
    with pytest.raises(ValueError, match=r"^x: must be an integer, got "):
        whole_number("x", value, 0, 9)


@pytest.mark.parametrize("value", [HUGE, -HUGE, [HUGE, 1], 10**5000], ids=["huge", "negative", "list", "digits"])
def test_integers_beyond_float64_are_refused(value):
    with pytest.raises(ValueError, match=r"^x: must be a number in the range of float64"):
        converted("x", value)


@pytest.mark.parametrize(
    "value",
    [np.ma.array([0.1, 0.2], mask=[False, True]), np.ma.array([1, 2], mask=True), np.ma.masked,
     np.ma.array(3, mask=True), [np.ma.array([1.0, 2.0], mask=[True, False]), np.ones(2)]],
    ids=["one", "all", "constant", "number", "list"],
)  # fmt: skip
def test_masked_entries_are_refused(value):
    with pytest.raises(ValueError, match=r"^x: must have no masked entries, got "):
        converted("x", value)
    with pytest.raises(ValueError, match=r"^x: must be an integer, got "):
        whole_number("x", value, 0, 9)


def test_an_array_that_masks_nothing_is_one_of_numbers():
    np.testing.assert_array_equal(converted("x", np.ma.array([0.1, 0.2])), [0.1, 0.2])
    with pytest.raises(ValueError, match=r"^h: must have no masked entries"):
        exact.gaussian("ula", np.ma.array([0.1, 0.2], mask=[False, True]))


def test_what_is_no_function_is_named_once():
    law = exact.transfer_operator("ula", "bimodal-1d", 0.3, tolerance=1e-3)
    with pytest.raises(ValueError, match=r"^f: must be a function, got 'x'$"):
        law.expectation("x")


# Calls of public functions that once raised an unclear error, none, or one that named another argument.
@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda: exact.gaussian("ula", HUGE), "h: must be a number in the range of float64"),
        (lambda: uldnum.integrator("mild", momentum=HUGE), "momentum: must be a number"),
        (lambda: uldnum.sample(MIXTURE, "ula", h=HUGE, steps=1, chains=1), "h: must be a number"),
        (lambda: uldnum.sample(MIXTURE, "ula", h=0.1, steps=1, chains=1, x0=[[HUGE]]), "x0: must be"),
        (lambda: exact.gaussian("ula", np.ones(2, "M8[s]")), "h: must be a number"),
        (lambda: exact.gaussian("ula", 0.1 + 0.2j), "h: must be a number"),
        (lambda: levels.geometric(True, 0.1, 3), "first: must be a number"),
        (lambda: MIXTURE.cdf(np.zeros((2, 2, 2))), r"x: must have shape \(n,\) or \(n, 1\)"),
        (lambda: MIXTURE.cdf(np.zeros(2, "M8[s]")), "x: must be a number"),
        (lambda: MIXTURE.score(np.zeros((2, 1), complex)), "x: must be a number"),
        (lambda: MIXTURE.moment(10**12), "order: must be at least 0 and at most 1000"),
        (lambda: MIXTURE.moment(1000), "order: the moment of order 1000 of 'mixture' exceeds the range of float64"),
        (lambda: MIXTURE.moment(2.0), "order: must be an integer"),
        (lambda: MIXTURE.noised(1.0, HUGE), "sigma: must be a number"),
        (lambda: MIXTURE.noised(0, 0), "alpha, sigma: must be at most"),
        (lambda: uldnum.GaussianMixture([1.0], [[1e300]], [1.0]), "means: must be at most"),
        (lambda: uldnum.GaussianMixture([1.0], [[0.0]], [1e-320]), "variances: must be between"),
        (lambda: levels.given([1.0], 1e-320), "alpha, sigma: sigma/alpha must be between"),
        (lambda: studies.mixing(MIXTURE, "ula", delta=[]), "delta: must be one or more"),
        (lambda: studies.mixing(MIXTURE, "ula", delta=[0.1, 0.1]), "delta: must be one or more"),
        (lambda: studies.advise("none", 0.1), "study: must be a complete dataset"),
        (lambda: studies.sweep([1, 2]), "tasks: must be a sequence of objects"),
        (lambda: studies.sweep([], store="a\0b"), "store: must be a valid path, got .*"),
        (lambda: uldnum.plan("ula", levels.geometric(2, 1, 2), h=1, denoise=np.ones(2)), "denoise: must be True or"),
        (lambda: uldnum.splitting("AB" * 10**5), "word: must have at most 100 letters"),
        (lambda: exact.transfer_operator("ula", "gaussian", 0.5, tolerance=True), "tolerance: must be a number"),
        (lambda: Card(**CARD, sigma_min=HUGE), "sigma_min: must be a number"),
        (lambda: DataMixture(np.full((1, 1, 2, 2), 1e30)), "images: must be at most"),
        (lambda: uldnum.UserTarget(lambda x: -x, 1, cdf=3), "cdf: must be a function"),
        (lambda: uldnum.UserTarget(lambda x: -x, HUGE), "dimension: must be at least 1"),
    ],
)
def test_errors_name_the_argument(call, fault):
    with pytest.raises(ValueError, match=f"^{fault}"):
        call()


def test_a_cdf_takes_a_number():
    np.testing.assert_array_equal(MIXTURE.cdf(0.5), MIXTURE.cdf([0.5]))


NO_RUNS = [None, 3, "run", np.ones((4, 1)), MIXTURE]


@pytest.mark.parametrize("value", NO_RUNS, ids=str)
def test_what_is_no_run_is_refused(value):
    for name in ("mean_bias", "second_moment_bias", "relaxation", "chain_mean_times", "effective_sample_size"):
        function = getattr(diagnostics, name)
        more = () if name in ("chain_mean_times", "effective_sample_size") else (MIXTURE,)
        with pytest.raises(ValueError, match=r"^run: must be a Run"):
            function(value, *more)


@pytest.mark.parametrize("value", [3, object(), MIXTURE, b"run.nc"])
def test_what_is_no_run_is_not_resumed(value):
    with pytest.raises(ValueError, match=r"^resume: must be a Run or the path"):
        uldnum.sample(MIXTURE, "ula", h=0.1, steps=1, chains=1, resume=value, backend="array")


def test_diagnostics_take_targets_by_name():
    x = uldnum.target("bimodal-1d").sample(16)
    target = uldnum.target("bimodal-1d")
    for one, other in zip(
        diagnostics.kernel_stein_discrepancy(x, "bimodal-1d"), diagnostics.kernel_stein_discrepancy(x, target),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(one, other)
    trace = np.stack([x, x[::-1]])
    assert diagnostics.hopping_rate(trace, "bimodal-1d") == diagnostics.hopping_rate(trace, target)
    with pytest.raises(ValueError, match=r"^target: 'double-well' does not provide its modes"):
        diagnostics.hopping_rate(trace, "double-well")


# --------------------------------------------------------------------------------------------------------------- names


BAD_NAMES = {"escape": "\x1b[31mred", "line break": "a\nb", "NUL": "a\0", "surrogate": "\udc80", "mirror": "a\u202eb",
             "bytes": b"name", "number": 3, "long": "a" * 201, "empty": "", "blank": "  "}  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_are_checked_where_they_enter(name):
    makers = [
        lambda: uldnum.GaussianMixture([1.0], [[0.0]], [1.0], name=name),
        lambda: uldnum.UserTarget(lambda x: -x, 1, name=name),
        lambda: uldnum.Integrator(name, uldnum.integrator("ula").recipe),
        lambda: DataMixture(np.ones((1, 1, 2, 2)), name),
    ]
    for make in makers:
        with pytest.raises(ValueError, match=r"^name: must "):
            make()


def test_names_of_levels_and_words_may_be_longer():
    mixture = uldnum.GaussianMixture([1.0], [[0.0]], [1.0], name="n" * 200)
    assert mixture.noised(1.0, 2.0).name.startswith("n" * 200)
    word = "BA" * 30 + "O"
    shares = [1 / word.count(letter) for letter in word]
    one, other = uldnum.splitting(word, shares), uldnum.splitting(word, [*shares[2:-1], *shares[:2], 1])
    assert one.name == other.name
    assert len(one.name) < 100 < len(",".join(map(str, shares)))
    assert checked_name("name", one.name) == one.name


@pytest.mark.parametrize(
    ("name", "found"), [("sigm", "sigma"), ("SIGMA", "sigma"), ("mode", "mode_weights"), ("foo", None), ("", None)]
)
def test_only_similar_names_are_suggested(name, found):
    """A name is suggested if it is similar, or begins with the given one."""
    assert nearest(name, ["colours", "mode_weights", "sigma"]) == found


def test_any_text_can_be_shown():
    assert printable("\x1b[31m\udc80é") == "\\x1b[31m\\udc80é"
    assert len(printable("a" * 10**6)) == 200


NAMES = "$\\badmacro{$", "$x^2$ 100%_#&~", "\\frac", "_hidden", "{", "ünï"


@pytest.fixture(scope="module", params=NAMES)
def stored(request, tmp_path_factory):
    """Figures show names of targets and integrators that are invalid TeX."""
    folder = tmp_path_factory.mktemp("names")
    target = uldnum.GaussianMixture([1.0], [[0.0]], [1.0], name=request.param)
    scheme = uldnum.Integrator(request.param, uldnum.integrator("ula").recipe)
    given = {"h": [0.1, 0.2], "nfe": 16, "burn_in": 4, "chains": 8, "backend": "array"}
    for name in ("bias", "frontier", "mixing"):
        getattr(studies, name)(target, [scheme], **given).to_netcdf(folder / f"{name}.nc")
    return folder


@pytest.mark.parametrize("draw", [draw_bias, draw_frontier, draw_mixing])
def test_figures_show_names_as_they_are(stored, draw):
    import matplotlib

    name = draw.__name__.removeprefix("draw_")
    with matplotlib.rc_context({"text.usetex": True}):
        figure = draw(stored / f"{name}.nc")
    save(figure, stored / f"{name}.svg")
    assert (stored / f"{name}.svg").stat().st_size


@pytest.mark.parametrize("draw", [draw_bias, draw_frontier, draw_mixing])
def test_figures_are_drawn_of_studies_alone(tmp_path, draw):
    with pytest.raises(ValueError, match=r"^study: .* cannot be read as NetCDF"):
        draw(tmp_path / "none.nc")
    xr.Dataset().to_netcdf(tmp_path / "empty.nc")
    for empty in (tmp_path / "empty.nc", xr.Dataset(), {"one": xr.Dataset()}):
        with pytest.raises(ValueError, match=r"^study: .* must contain a study of"):
            draw(empty)
    with pytest.raises(ValueError, match=r"^study: must be a dataset, a path, or a mapping from names to them"):
        draw(None)
    with pytest.raises(ValueError, match=r"^study: must hold at least one study"):
        draw({})


def test_formats_of_figures_are_checked(stored):
    with pytest.raises(ValueError, match=r"^out: the suffix must be one of"):
        save(draw_bias(stored / "bias.nc"), stored / "bias.doc")


# ------------------------------------------------------------------------------------------------------ cards and files


@pytest.fixture
def model(tmp_path):
    graph = Graph()
    graph.node("Neg", Value(graph, "sample"), output="answer")
    shape = ("float32", ["n", 1, 2, 2])

    def save(metadata=None, name="net.onnx", shape=shape):
        return graph.save(tmp_path / name, {"sample": shape}, {"answer": shape}, metadata)

    return save


@pytest.mark.parametrize(
    ("card", "fault"),
    [
        ({"name": "\x1b[2J"}, "name: must be printable"),
        ({"licence": "\x1b]0;title\x07"}, "licence: must be printable"),
        ({"name": "n" * 100_000}, "name: must have at most 200"),
        ({"citation": "n" * 100_000}, "citation: must have at most 10000"),
        ({"schedule": {"kind": "linear", "beta_start": 1e-4, "beta_end": 0.02, "timesteps": 10**9}},
         "timesteps: must be at least 2 and at most 1048576"),
        ({"schedule": {"kind": "cosine", "timesteps": 10**12}}, "timesteps: must be at least 2"),
        ({"schedule": {"kind": "betas", "values": ["0.1", "0.2"]}}, "betas: must be a number"),
        ({"shape": [1, 10**9, 10**9]}, "shape: must be channels, height and width"),
        ({"data_range": [-1e300, 1e300]}, "data_range: must be two numbers"),
        ({"sigma": HUGE}, "sigma: must be a number in the range of float64"),
        ([1], "card: must be a mapping"),
    ],
)  # fmt: skip
def test_cards_are_checked(model, card, fault):
    with pytest.raises(ValueError, match=fault):
        networks.network(model(), CARD | card if isinstance(card, dict) else card).at(0.5)


def test_text_of_a_file_does_not_reach_the_terminal(model):
    path = model(CARD_IN_MODEL | {"uldnum.name": '"\\u001b[2J"'})
    command = [
        sys.executable,
        "-c",
        "from uldnum.cli.app import main; main()",
        "sample",
        "--network",
        str(path),
        "--out",
        str(path.parent / "out"),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "name: must be printable" in result.stderr
    assert "\x1b[2J" not in result.stdout + result.stderr


CARD_IN_MODEL = {f"uldnum.{key}": f'"{value}"' for key, value in CARD.items()}

DEEP = {"arrays": "a = " + "[" * 200_000, "tables": "a = " + "{b = " * 100_000, "key": ".".join("a" * 100_000) + " = 1",
        "quoted": ".".join(['"="'] * 100_000) + " = 1", "header": f"[{'.'.join('a' * 100_000)}]",
        "digits": "a = " + "1" * 5000}  # fmt: skip


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_toml_is_refused_at_once(tmp_path, model, text):
    begun = time.process_time()
    (tmp_path / "bomb.toml").write_text(text)
    with pytest.raises(ValueError, match=r"^target: .*bomb\.toml' cannot be read as TOML: ."):
        uldnum.target(tmp_path / "bomb.toml")
    path = model(CARD_IN_MODEL, "bomb.onnx")
    with pytest.raises(ValueError, match=r"^card: .*bomb\.toml' cannot be read as TOML: ."):
        networks.network(path)
    assert networks.parse_value(text.removeprefix("a = ")[: 10**5]) or True
    assert time.process_time() - begun < 5


def test_ordinary_toml_is_read():
    text = "a.b.c = 1\n" + '"x.y".z = "' + "1.2." * 20 + '"\nf = [' + "1.5, " * 1000 + "]\n"
    assert parse_toml(text)["a"] == {"b": {"c": 1}}


def test_large_cards_are_refused(tmp_path, model):
    path = model(CARD_IN_MODEL)
    path.with_suffix(".toml").write_text("# " + "a" * 2**20)
    with pytest.raises(ValueError, match=r"^card: .* cannot be read as TOML: it has more than 1048576 bytes"):
        networks.network(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "[]"])
def test_deep_json_is_refused(tmp_path, text):
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(ValueError, match=r"^network: .*model_index\.json' cannot be read as JSON: ."):
        networks.network(tmp_path)


def test_paths_that_no_system_has_are_refused(tmp_path):
    for value in ("a" * 100_000, "a\0b", "", None, 3, b"path", MIXTURE):
        with pytest.raises(ValueError, match=r"^path: "):
            file_path("path", value)
        with pytest.raises(ValueError, match=r"^source: "):
            networks.network(value)
        with pytest.raises(ValueError, match=r"^path: "):
            uldnum.Run.load(value)
    assert file_path("path", tmp_path / "none" / "there") == tmp_path / "none" / "there"


# -------------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        (["n", 1, 10**6, 10**6], "an image must have at most"),
        ([2**20, 1, 2**10, 2**10], "images of a call must have at most"),
    ],
)
def test_models_of_huge_images_are_refused(model, shape, fault):
    with pytest.raises(ValueError, match=f"^network: .*{fault}"):
        networks.network(model(shape=("float32", shape)), CARD)


def test_weights_that_are_declared_and_not_there_are_refused(tmp_path):
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10**6, 10**6])
    info = helper.make_tensor_value_info("sample", TensorProto.FLOAT, ["n", 1, 2, 2])
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", 1, 2, 2])
    graph = helper.make_graph([helper.make_node("Add", ["sample", "w"], ["answer"])], "g", [info], [answer], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ValueError, match=r"^network: .* cannot be used: "):
        networks.network(tmp_path / "net.onnx", CARD)


def endless(path: Path) -> Path:
    """Write a model that never returns: an unbounded loop whose condition is always true."""
    number = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("c", "go on")]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, 2, 2])
        for name in ("a", "b", "sample", "answer")
    ]
    nodes = [helper.make_node("Identity", ["c"], ["go on"]), helper.make_node("Sin", ["a"], ["b"])]
    body = helper.make_graph(nodes, "body", [number, flags[0], values[0]], [flags[1], values[1]])
    loop = helper.make_node("Loop", ["", "true", "sample"], ["answer"], body=body)
    true = numpy_helper.from_array(np.array(True), "true")
    graph = helper.make_graph([loop], "graph", [values[2]], [values[3]], [true])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_an_interrupt_ends_a_call_of_a_model(tmp_path):
    level = networks.network(endless(tmp_path / "net.onnx"), CARD).at(0.5)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(KeyboardInterrupt):
        level.score(np.zeros((1, 1, 2, 2), np.float32))


def test_a_second_interrupt_ends_a_run_whose_model_does_not_answer(tmp_path):
    endless(tmp_path / "net.onnx")
    code = (
        "import uldnum, numpy as np\n"
        f"net = uldnum.networks.network({str(tmp_path / 'net.onnx')!r}, {CARD})\n"
        "run = net.model.run\n"
        "net.model.run = lambda binding: (print('ready', flush=True), run(binding))\n"
        "uldnum.sample(net.at(0.5), 'ula', h=1, steps=3, chains=1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    for _ in range(20):  # the first one may be handled within the run, the second one ends it
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        if process.poll() is not None:
            break
    _, fault = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in fault
