"""How far onnxruntime's norm on a CPU is from float64, by how many values it sees.

Of noise, in standard deviations; and where all values are equal, when the result should be zero. This is why
large norms are exported in steps (`export/fusion/norms.py`).
`python -m benchmarks.export_norms`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

Way = Callable[[np.ndarray], np.ndarray]
ROWS = 2
POWERS = (15, 18, 20, 21, 22, 24)


def main() -> int:
    """Print a row for each number of values; returns 0."""
    run = _kernel()
    generator = np.random.default_rng(0)
    print(f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}")
    print("| values | noise: onnxruntime | torch | all equal: onnxruntime | torch |\n|---|---|---|---|---|")
    for power in POWERS:
        noise = (generator.normal(size=(1, ROWS, 2**power)) + 1).astype(np.float32)
        equal = np.broadcast_to(np.float32([[[0.3], [0.45]]]), noise.shape).copy()
        cells = [f"{_error(way, values):.0e}" for values in (noise, equal) for way in (run, _by_torch)]
        print(f"| 2^{power} | {' | '.join(cells)} |")
    return 0


def _kernel() -> Way:
    norm = helper.make_node("InstanceNormalization", ["x", "one", "zero"], ["y"], epsilon=1e-5)
    parameters = [
        helper.make_tensor(name, TensorProto.FLOAT, [ROWS], [value] * ROWS)
        for name, value in (("one", 1.0), ("zero", 0.0))
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, ROWS, "n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([norm], "norm", [x], [y], parameters)
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda values: session.run(None, {"x": values})[0]


def _by_torch(values: np.ndarray) -> np.ndarray:
    return torch.nn.functional.instance_norm(torch.from_numpy(values)).numpy()


def _error(way: Way, values: np.ndarray) -> float:
    exact = values.astype(np.float64)
    centred = exact - exact.mean(2, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(2, keepdims=True) + 1e-5)
    return float(np.abs(way(values) - exact).max())


if __name__ == "__main__":
    sys.exit(main())
