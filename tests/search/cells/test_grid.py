from __future__ import annotations

import pytest
import torch
from surgeon.search import CellGenotype, CellSpec, DerivedCell, Edge, with_operations
from surgeon.search.cells.depthwise import depthwise
from surgeon.search.cells.grid import Grid
from torch import nn


@pytest.mark.parametrize(
    ("images", "channels", "abreast"),
    [(8, 1, 8), (8, 4, 4), (6, 4, 3), (6, 2, 6), (5, 3, 5), (7, 4, 1), (2, 8, 2), (8, 9, 1), (1, 4, 1)],
)
def test_as_many_images_stand_side_by_side_as_divide_the_batch_and_fill_a_block(images, channels, abreast):
    assert Grid.of(torch.zeros(images, channels, 3, 2), channels).abreast == abreast


@pytest.mark.parametrize("spatial", [(5,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("abreast", [1, 2, 4])
def test_maps_become_rows_and_come_back(spatial, abreast):
    maps = torch.randn(4, 3, *spatial)
    grid = Grid(4, spatial, abreast)
    rows = grid.rows(maps)
    assert torch.equal(grid.maps(rows), maps)
    assert torch.equal(grid.narrow(grid.wide(rows)), rows)
    assert grid.wide(rows).shape == (4 // abreast, 3 * abreast, *spatial)
    assert torch.equal(rows.sort(0).values, maps.movedim(1, -1).reshape(-1, 3).sort(0).values)


@pytest.mark.parametrize("spatial", [(6, 5), (4, 5, 6)])
def test_a_kernel_sees_each_image_alone(spatial):
    maps, grid = torch.randn(6, 2, *spatial, dtype=torch.float64), Grid(6, spatial, 3)
    kernel = torch.randn(2, 1, *(3,) * len(spatial), dtype=torch.float64, requires_grad=True)
    seen = grid.maps(grid.narrow(depthwise(grid.wide(grid.rows(maps)), grid.repeat(kernel), 1)))
    expected = depthwise(maps, kernel, 1)
    torch.testing.assert_close(seen, expected)
    gradient = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad(out, kernel, gradient)[0] for out in (seen, expected)))


def test_a_users_own_operation_is_given_whole_images():
    class Shade(nn.Module):
        def forward(self, x):
            assert x.shape == (4, 4, 6, 6)
            return x - x.mean((0, 2, 3), keepdim=True) * torch.linspace(0, 1, 4).view(4, 1, 1, 1)

    table = with_operations({"shade": lambda *_: Shade()})
    spec = CellSpec(16, 2, states=1, operations=("shade",))
    cell = DerivedCell(spec, CellGenotype(0.25, (Edge("input0", "state0", "shade"),)), table)
    nn.init.ones_(cell.exit.gamma)
    x = torch.randn(4, 16, 6, 6)
    whole = cell.exit(x, [Shade()(state) for state in cell.entry(x, None)])
    torch.testing.assert_close(cell.by_rows(x), whole)
