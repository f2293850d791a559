"""What a cell would cost, before anything is searched."""

import pytest
import torch
from surgeon.search import CellSpec, Config, DerivedCell, estimate_cells
from surgeon.search.costs import count_flops, count_parameters
from surgeon.search.entrants import fixed_cell

import surgeon
from tests.core import networks


@pytest.mark.parametrize("inputs", ["encoder", "both"])
def test_the_estimate_is_what_such_a_cell_costs_when_it_is_built(inputs):
    anatomy = surgeon.inspect(networks.UNet(), torch.rand(1, 1, 16, 16))
    costs = estimate_cells(anatomy, Config.create(inputs=inputs))
    assert list(costs) == [skip.id for skip in anatomy.skips]
    for skip in anatomy.skips:
        spec = CellSpec(
            channels=skip.channels,
            spatial_dims=2,
            decoder_channels=skip.decoder_channels,
            inputs=Config.create(inputs=inputs).inputs,
        )
        cell = DerivedCell(spec, fixed_cell(spec)).eval()
        given = [torch.rand(skip.merge_shape), torch.rand(skip.decoder_shape)]
        expected = count_flops(cell, tuple(given if cell.needs_decoder else given[:1]))
        assert costs[skip.id].parameters == count_parameters(cell)
        assert costs[skip.id].flops == expected > 0


def test_a_network_without_skips_costs_nothing():
    anatomy = surgeon.inspect(torch.nn.Conv2d(1, 1, 3, padding=1), torch.rand(1, 1, 8, 8))
    assert estimate_cells(anatomy) == {}
