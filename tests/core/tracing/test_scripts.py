"""TorchScript programs as hosts, and what torch puts around a network."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import surgeon
from surgeon.errors import InputError, TraceError
from surgeon.tracing import Way, trace
from tests.core.networks import UNet, image

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


def script(kind: str, network: nn.Module, dims: int) -> nn.Module:
    if kind == "traced":
        return torch.jit.trace(network, image(dims))
    return torch.jit.script(network)


class Plain(nn.Module):
    """A network of one skip that TorchScript takes whole."""

    def __init__(self, dims: int, steps: int = 0) -> None:
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1]
        self.first = convolution(1, 4, 3, padding=1)
        self.norm = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 1](4, affine=True)
        self.down = convolution(4, 6, 3, stride=2, padding=1)
        self.up = transposed(6, 4, 2, stride=2, groups=2)
        self.last = convolution(8, 2, 1)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.norm(self.first(x)))
        deep = torch.relu(self.down(first))
        for _ in range(self.steps):
            deep = deep * 0.5
        return self.last(torch.cat([first, self.up(deep)], 1))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", ["traced", "scripted"])
def test_a_torchscript_program_has_the_skips_and_weights_of_its_network(kind: str, dims: int) -> None:
    network = Plain(dims).eval()
    program = script(kind, network, dims)
    found, expected = surgeon.inspect(program, image(dims)), surgeon.inspect(network, image(dims))
    assert [(s.level, s.merge, s.merge_shape) for s in found.skips] == [
        (s.level, s.merge, s.merge_shape) for s in expected.skips
    ]
    assert len(found.skips) == 1
    assert (found.trace.free_sizes, found.trace.free_batch) == (True, True)
    traced = trace(program, image(dims))
    assert traced.host_name == "Plain"
    weights = dict(traced.graph_module.named_parameters())
    assert weights.keys() == dict(network.named_parameters()).keys()
    assert all(torch.equal(weights[name], held) for name, held in network.named_parameters())
    larger = image(dims, size=24, batch=3)
    assert torch.equal(traced.graph_module(larger), network(larger))


@pytest.mark.parametrize("kind", ["traced", "scripted"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_deepest_skip_is_told_by_the_line_of_its_siblings(kind: str, norm: str, tmp_path: Path) -> None:
    from monai.networks.nets import UNet as MonaiUNet

    network = MonaiUNet(2, 1, 2, (4, 4, 8), (2, 2), norm=norm).eval()
    torch.jit.save(script(kind, network, 2), tmp_path / "unet.ts")
    found = surgeon.inspect(torch.jit.load(tmp_path / "unet.ts"), image())
    expected = surgeon.inspect(network, image())
    assert [s.merge_shape for s in found.skips] == [s.merge_shape for s in expected.skips]
    assert len(found.skips) == 2


def test_what_cannot_be_translated_is_recorded_while_it_runs() -> None:
    program = torch.jit.script(Plain(2, steps=2).eval())
    traced = trace(program, image())
    assert traced.summary.way is Way.SCRIPT_RECORDED
    assert "Loop" in traced.summary.attempts[0].reason
    assert "first.weight" in dict(traced.graph_module.named_parameters())


def test_a_program_that_fails_both_ways_is_refused() -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            while bool(x.mean() < 100):
                x = x * 2
            return self.conv(x)

    with pytest.raises(TraceError, match="Doubling could not be traced"):
        trace(torch.jit.script(Doubling().eval()), image())


def test_a_host_is_taken_out_of_what_torch_puts_around_it() -> None:
    network = UNet().eval()
    for wrapped in (
        torch.compile(network),
        nn.DataParallel(network),
        nn.DataParallel(torch.compile(network)),
    ):
        traced = trace(wrapped, image())
        assert traced.host_name == "UNet"
        assert traced.summary.free_sizes
        assert traced.graph_module.state_dict().keys() == network.state_dict().keys()


def test_inputs_that_a_forward_collects_keep_their_sizes_free() -> None:
    class Collecting(UNet):
        def forward(self, *inputs: Tensor) -> Tensor:
            return super().forward(inputs[0])

    found = surgeon.inspect(Collecting().eval(), image())
    assert (len(found.skips), found.trace.free_sizes) == (2, True)


def test_channels_that_are_stacked_are_a_skip_as_those_that_are_concatenated() -> None:
    class Stacking(Plain):
        def forward(self, x: Tensor) -> Tensor:
            first = torch.relu(self.first(x))
            return self.last(torch.hstack([first, self.up(torch.relu(self.down(first)))]))

    (skip,) = surgeon.inspect(Stacking(2).eval(), image()).skips
    assert (skip.merge.value, skip.level) == ("cat", 0)


def test_a_region_under_autocast_is_named_as_what_hides_the_skips() -> None:
    class Cast(UNet):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(x)

    assert any("autocast" in note for note in surgeon.inspect(Cast().eval(), image()).notes)


class Resizing(nn.Module):
    """Reads the size of its image, which a recording fixes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Plain(2, steps=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.network(x), size=(x.shape[2], x.shape[3])) * 0.5


def test_a_graph_of_one_size_refuses_any_other_and_says_what_to_do() -> None:
    traced = trace(torch.jit.script(Resizing().eval()), image())
    assert not traced.summary.free_sizes
    kept = pickle.loads(pickle.dumps(traced.graph_module))
    for graph in (traced.graph_module, kept):
        assert graph(image(batch=2)).shape == (2, 2, 16, 16)
        with pytest.raises(InputError, match=r"holds for images of \(16, 16\) alone") as caught:
            graph(image(size=24))
        assert "[window]" in caught.value.fix
