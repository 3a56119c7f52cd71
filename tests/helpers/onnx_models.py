"""ONNX models with exactly known output: noised Gaussian mixtures in every parameterisation."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE,
         "int32": TensorProto.INT32, "int64": TensorProto.INT64}  # fmt: skip


class Value:
    """A float64 tensor in a graph. Arithmetic with it adds nodes to the graph."""

    def __init__(self, graph, name):
        self.graph, self.name = graph, name

    def __add__(self, other):
        return self.graph.node("Add", self, other)

    def __sub__(self, other):
        return self.graph.node("Sub", self, other)

    def __mul__(self, other):
        return self.graph.node("Mul", self, other)

    def __truediv__(self, other):
        return self.graph.node("Div", self, other)

    def __rsub__(self, number):
        return constant(self.graph, number) - self

    def __pow__(self, power):
        return self.graph.node("Pow", self, float(power))

    def exp(self):
        return self.graph.node("Exp", self)

    def log(self):
        return self.graph.node("Log", self)

    def sum(self, axis):
        return self.graph.node("ReduceSum", self, np.array([axis]), keepdims=1)


class Graph:
    def __init__(self):
        self.nodes, self.weights = [], []

    def node(self, kind, *inputs, output=None, **attributes):
        names = [value.name if isinstance(value, Value) else self.weight(value) for value in inputs]
        name = output or f"y{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [name], **attributes))
        return Value(self, name)

    def weight(self, array):
        array = np.asarray(array)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def save(self, path, inputs, outputs, metadata=None, opset=17, external=False):
        """Write the model to a file; inputs and outputs map names to (type, shape)."""
        info = [[helper.make_tensor_value_info(n, TYPES[t], s) for n, (t, s) in part.items()]
                for part in (inputs, outputs)]  # fmt: skip
        graph = helper.make_graph(self.nodes, "test", *info, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        helper.set_model_props(model, metadata or {})
        onnx.checker.check_model(model, full_check=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path, save_as_external_data=external, location=f"{path.name}_data", size_threshold=200)
        return path


def constant(graph, number):
    return Value(graph, graph.weight(np.float64(number)))


def mixture_answer(graph, z, alpha, sigma, mixture, what, sigma_data=0.5):
    """Return the output of a network with a parameterisation, for z (n, d) and alpha and sigma (n, 1)."""
    weights, means, v = mixture.weights, mixture.means, mixture.variances[:, 0]
    d = means.shape[1]
    total = alpha**2 * v + sigma**2  # (n, K)
    centres = graph.node("Unsqueeze", alpha, np.array([2])) * means  # (n, K, d)
    gaps = graph.node("Unsqueeze", z, np.array([1])) - centres
    squares = graph.node("Squeeze", (gaps * gaps).sum(2), np.array([2]))
    logs = constant(graph, 0.0) + np.log(weights) - total.log() * (d / 2) - squares / (total * 2.0)
    share = graph.node("Unsqueeze", graph.node("Softmax", logs, axis=1), np.array([2]))
    pull = graph.node("Unsqueeze", alpha * v / total, np.array([2]))
    x0 = graph.node("Squeeze", (share * (gaps * pull + means)).sum(1), np.array([1]))
    noise = z - alpha * x0
    root = (sigma**2 + sigma_data**2) ** 0.5
    return {
        "score": lambda: constant(graph, -1.0) * noise / sigma**2,
        "epsilon": lambda: noise / sigma,
        "noise": lambda: noise,
        "denoiser": lambda: x0,
        "v": lambda: alpha * noise / sigma - sigma * x0,
        "velocity": lambda: noise / sigma - x0,
        "negative-velocity": lambda: x0 - noise / sigma,
        "edm": lambda: (x0 - z * sigma_data**2 / root**2) * root / (sigma * sigma_data),
        "negative-edm": lambda: (z * sigma_data**2 / root**2 - x0) * root / (sigma * sigma_data),
    }[what]()


def save_mixture(path, mixture, shape, what, levels, *, condition=("float32", ["batch"]), edm=False, **options):
    """Write a network whose output is the parameterisation ``what`` of a noised mixture.

    ``levels(graph, u)`` returns alpha and sigma, (n, 1) or a number each, for the condition u, (n, 1) or (1, 1).
    """
    graph = Graph()
    size = int(np.prod(shape))
    z = graph.node("Reshape", graph.node("Cast", Value(graph, "sample"), to=TYPES["float64"]), np.array([0, size]))
    u = graph.node("Reshape", graph.node("Cast", Value(graph, "timestep"), to=TYPES["float64"]), np.array([-1, 1]))
    alpha, sigma = levels(graph, u)
    if edm:
        z = z * (sigma**2 + 0.25) ** 0.5
    answer = graph.node("Reshape", mixture_answer(graph, z, alpha, sigma, mixture, what), np.array([-1, *shape]))
    graph.node("Cast", answer, to=TYPES["float32"], output="answer")
    image = ("float32", ["batch", *shape])
    return graph.save(path, {"sample": image, "timestep": condition}, {"answer": image}, **options)
