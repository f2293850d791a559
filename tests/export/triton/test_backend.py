import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from surgeon.export.triton.backend import TritonPythonModel


@pytest.fixture
def repository(tmp_path):
    """Lay a model that doubles its input where Triton would."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "size"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (tmp_path / "1").mkdir()
    onnx.save(model, tmp_path / "1" / "model.onnx")
    return tmp_path


def started(repository, output="y", batch=8):
    config = {"input": [{"name": "x"}], "output": [{"name": output}], "max_batch_size": batch}
    model = TritonPythonModel()
    model.initialize(
        {"model_config": json.dumps(config), "model_repository": str(repository), "model_version": "1"}
    )
    return model


@pytest.mark.parametrize("batch", [0, 8])
@pytest.mark.parametrize("sizes", [(3, 3), (3, 5)])
def test_every_request_gets_its_own_answer(repository, batch, sizes):
    feeds = [{"x": np.full((rows + 1, size), rows, np.float32)} for rows, size in enumerate(sizes)]
    answers = started(repository, batch=batch)._answer(feeds)
    for feed, (answer,) in zip(feeds, answers, strict=True):
        np.testing.assert_array_equal(answer, 2 * feed["x"])


def test_an_output_that_the_file_lacks_is_refused(repository):
    with pytest.raises(ValueError, match=r"model\.onnx has no output called labels"):
        started(repository, output="labels")
