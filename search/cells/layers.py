"""The layers of operations on rows: convolutions up to their last product, and pools."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from ..norms import BatchNorm
from .depthwise import average, depthwise
from .grid import Grid
from .rows import Product, add_products


def run_convolutions(operation: nn.Module, rows: Tensor, grid: Grid, blocks: Tensor | None = None) -> Product:
    """Run the layers of an operation of convolutions up to its last product, which is left to the caller.

    Args:
        operation: ReLU, a depthwise convolution or none, a 1x1 convolution and a BatchNorm, once or repeated.
        rows: the input `(P, m)`, the first ReLU done.
        grid: of the rows.
        blocks: `(n, n)`, 1 where an input channel is in the group of an output channel; None for one group,
            or where the groups share their input.
    """
    layers = [layer for layer in operation.children() if not isinstance(layer, nn.ReLU)]
    owned = False
    while True:
        if not _is_pointwise(layers[0]):
            filtered, *layers = layers
            kernel = grid.repeat(_weight(filtered))
            rows, owned = grid.narrow(depthwise(grid.wide(rows), kernel, _dilation(filtered))), True
        mixed, norm, *layers = layers
        assert isinstance(norm, BatchNorm)
        product = Product(rows, _as_matrix(_weight(mixed), blocks), norm, norm.weight, owned)
        if not layers:
            return product
        rows, owned = add_products([product], norm.bias).relu_(), False


_AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_POOLS = (*_AVERAGES, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


def run_pool(operation: nn.Module, x: Tensor, grid: Grid) -> Tensor:
    """Pool rows `(P, C)`."""
    maps = grid.wide(x)
    averages = isinstance(operation, _AVERAGES) and maps.device.type == "cpu"
    return grid.narrow(average(maps) if averages else operation(maps))


def run_alone(operation: nn.Module, x: Tensor, grid: Grid) -> Tensor:
    """Run an operation that is not made of convolutions, or is a user's own, on rows `(P, C)`."""
    if isinstance(operation, nn.Identity):
        return x
    if isinstance(operation, _POOLS):
        return run_pool(operation, x, grid)
    return grid.rows(operation(grid.maps(x)))


def scaled(product: Product, scale: Tensor) -> Product:
    """Return the product with another scale `(n,)`."""
    return replace(product, scale=scale)


def _is_pointwise(layer: nn.Module) -> bool:
    return _weight(layer)[0, 0].numel() == 1


def _weight(convolution: nn.Module) -> Tensor:
    weight = convolution.weight
    assert isinstance(weight, Tensor)
    return weight


def _dilation(convolution: nn.Module) -> int:
    dilation = convolution.dilation
    assert isinstance(dilation, tuple)
    return int(dilation[0])


def _as_matrix(weight: Tensor, blocks: Tensor | None) -> Tensor:
    """Turn the weight `(n, m, 1, ...)` of a 1x1 convolution into a matrix, dense over its groups."""
    flat = weight.flatten(1)
    if blocks is not None:
        flat = flat.repeat(1, blocks.shape[1] // flat.shape[1]) * blocks
    return flat.t()
