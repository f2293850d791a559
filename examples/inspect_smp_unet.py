"""Look into a network of segmentation_models_pytorch, and put a module of your own on one skip.

python examples/inspect_smp_unet.py
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

import surgeon


class Gate(nn.Module):
    """Weighs the channels of a skip; opens fully at birth, so that the host computes what it did."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, *spatial) of (N, C, *spatial)."""
        return x * self.weight.view(1, -1, *[1] * (x.dim() - 2))


def main() -> None:
    """Inspect, splice, train one step."""
    host = smp.Unet("resnet18", encoder_weights=None, in_channels=3, classes=2).eval()
    inputs = torch.rand(1, 3, 64, 64)
    anatomy = surgeon.inspect(host, inputs)
    for skip in anatomy.skips:
        print(
            f"{skip.id}  {skip.kind.value}  {skip.merge.value}  {skip.source_module} -> {skip.merge_module}"
        )
    print(len(anatomy.refusals), "merges are no skips; one of them:", anatomy.refusals[0].reason)

    spliced = surgeon.splice(host, inputs, {"s0": Gate(anatomy["s0"].channels)})
    print("equal to the bit:", torch.equal(spliced(inputs), host(inputs)))
    spliced.train()
    spliced(inputs).mean().backward()
    print("trains:", [name for name, value in spliced.named_parameters() if value.grad is not None])


if __name__ == "__main__":
    main()
