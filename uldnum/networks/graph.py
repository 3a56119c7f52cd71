"""Builder of ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from uldnum._util.typing import Array

if TYPE_CHECKING:
    import onnx

__all__ = ["Graph"]

OPSET = 17
IR_VERSION = 8


class Graph:
    """An ONNX graph under construction: its nodes and weights."""

    def __init__(self) -> None:
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self.weights: dict[str, Array] = {}

    def weight(self, array: Array) -> str:
        """Add a constant and return its name."""
        name = f"w{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(array)
        return name

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add an operation and return the name of its output."""
        name = output or f"y{len(self.nodes)}"
        self.nodes.append((kind, list(inputs), name, attributes))
        return name

    def model(
        self, name: str, inputs: Mapping[str, Sequence[str | int]], outputs: Mapping[str, Sequence[str | int]]
    ) -> onnx.ModelProto:
        """Return the checked model, whose inputs and outputs are float32 arrays of the given shapes."""
        import onnx
        from onnx import helper, numpy_helper

        def values(shapes: Mapping[str, Sequence[str | int]]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, list(s)) for n, s in shapes.items()]

        model = helper.make_model(
            helper.make_graph(
                [helper.make_node(kind, inputs, [output], **options) for kind, inputs, output, options in self.nodes],
                name,
                values(inputs),
                values(outputs),
                [numpy_helper.from_array(array, weight) for weight, array in self.weights.items()],
            ),
            producer_name="uldnum",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(model, full_check=True)
        return model
