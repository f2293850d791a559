"""Ask a Triton server that serves an export for the labels of an image. Needs the extra `triton`.

surgeon export RUN --out served --target triton --name pupil
tritonserver --model-repository served/triton            # without a GPU: --model-config-name=cpu
python examples/ask_triton.py pupil image.png --url localhost:8000
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tritonclient.http import InferenceServerClient, InferInput


def ask(client: InferenceServerClient, model: str, image: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the labels (N, *spatial) of an image (N, C, *spatial)."""
    name = client.get_model_metadata(model)["inputs"][0]["name"]
    request = InferInput(name, list(image.shape), "FP32")
    request.set_data_from_numpy(image)
    answer = client.infer(model, [request])
    logits = answer.as_numpy(answer.get_response()["outputs"][0]["name"])
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).astype(np.int64)
    return logits.argmax(1)


def main() -> None:
    """Ask once and say how much of the image is foreground."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("image", type=Path)
    parser.add_argument("--url", default="localhost:8000")
    options = parser.parse_args()
    grey = np.asarray(Image.open(options.image).convert("L"), np.float32) / 255
    labels = ask(InferenceServerClient(options.url), options.model, grey[None, None])
    print(f"{100 * (labels > 0).mean():.1f} % of {options.image.name} is foreground")


if __name__ == "__main__":
    main()
