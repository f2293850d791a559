from __future__ import annotations

import copy

import pytest
import torch
from surgeon.search import (
    Adapter,
    Architecture,
    BatchedSearchCell,
    CellGenotype,
    CellMerge,
    CellSpec,
    DerivedCell,
    Edge,
    Inputs,
    SearchCell,
    with_operations,
)
from surgeon.search.cells.reference import shuffle_order
from torch import nn

from surgeon.errors import InputError

SEARCH_CELLS = [SearchCell, BatchedSearchCell]
SMALL = CellGenotype(0.25, (Edge("input0", "state0", "sep3"), Edge("state0", "state1", "max3")))


def build(kind, spec, seed=0):
    return kind(spec, Architecture(spec, torch.Generator().manual_seed(seed)))


def features(spec, size=6, batch=2):
    return torch.randn(batch, spec.channels, *(size,) * spec.spatial_dims)


@pytest.mark.parametrize("kind", SEARCH_CELLS)
@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
@pytest.mark.parametrize(("channels", "partial"), [(64, 4), (20, 3), (7, 4), (1, 4), (40, 1)])
def test_a_search_cell_is_born_equal_to_the_skip_with_any_number_of_channels(
    kind, spatial_dims, channels, partial
):
    spec = CellSpec(channels, spatial_dims, partial=partial, states=2)
    x = features(spec)
    assert torch.equal(build(kind, spec)(x), x)


def test_a_derived_cell_and_an_adapter_are_born_equal_to_the_skip():
    spec = CellSpec(16, 2, states=2)
    x = features(spec)
    assert torch.equal(DerivedCell(spec, SMALL)(x), x)
    assert torch.equal(Adapter(spec)(x), x)


@pytest.mark.parametrize("kind", SEARCH_CELLS)
def test_replace_gives_the_cells_output_alone(kind):
    spec = CellSpec(16, 2, states=2, merge=CellMerge.REPLACE)
    cell, x = build(kind, spec), features(spec)
    nn.init.zeros_(cell.exit.expansion.weight)
    nn.init.constant_(cell.exit.expansion.bias, 3.0)
    assert torch.equal(cell(x), torch.full_like(x, 3.0))


@pytest.mark.parametrize("kind", [*SEARCH_CELLS, DerivedCell])
def test_a_cell_of_both_inputs_asks_for_the_decoder_and_uses_it(kind):
    spec = CellSpec(16, 2, decoder_channels=5, states=2, inputs=Inputs.BOTH)
    genotype = CellGenotype(
        0.25, (Edge("input1", "state0", "identity"), Edge("state0", "state1", "identity"))
    )
    cell = DerivedCell(spec, genotype) if kind is DerivedCell else build(kind, spec)
    nn.init.ones_(cell.exit.gamma)
    x, decoder = features(spec), torch.randn(2, 5, 6, 6)
    assert cell.needs_decoder
    assert cell(x, decoder).shape == x.shape
    assert not torch.allclose(cell(x, decoder), cell(x, decoder + torch.randn(2, 5, 6, 6)))


@pytest.mark.parametrize("kind", SEARCH_CELLS)
def test_first_gradients_reach_gamma_alone_and_then_everything(kind):
    spec = CellSpec(16, 2, states=2)
    cell, x = build(kind, spec), features(spec)
    target = torch.randn_like(x)
    for turn in range(2):
        cell.zero_grad()
        ((cell(x) - target) ** 2).mean().backward()
        assert cell.exit.gamma.grad.abs().max() > 0
        moved = all(p.grad.abs().max() > 0 for p in cell.architecture_parameters())
        assert moved is bool(turn)
        with torch.no_grad():
            cell.exit.gamma -= cell.exit.gamma.grad


@pytest.mark.parametrize("kind", SEARCH_CELLS)
def test_alpha_and_beta_are_in_the_state_and_apart_from_the_weights(kind):
    cell = build(kind, CellSpec(16, 2, states=2))
    names = [name for name in cell.state_dict() if name.startswith("architecture.")]
    assert names == [f"architecture.{name}" for name in ("alpha", "beta", "kept", "kept_edges")]
    together = {id(p) for p in cell.architecture_parameters() + cell.weight_parameters()}
    assert together == {id(p) for p in cell.parameters()}
    assert not {id(p) for p in cell.architecture_parameters()} & {id(p) for p in cell.weight_parameters()}


def test_cells_that_share_a_genotype_still_share_it_after_a_deep_copy():
    spec = CellSpec(16, 2, states=2)
    architecture = Architecture(spec)
    both = copy.deepcopy(
        nn.ModuleDict({"s0": SearchCell(spec, architecture), "s1": SearchCell(spec, architecture)})
    )
    assert both["s0"].architecture.alpha is both["s1"].architecture.alpha
    assert both["s0"].architecture.alpha is not architecture.alpha


def test_architecture_weights_add_up_to_one_for_each_edge_and_each_state():
    spec = CellSpec(16, 2, states=3, inputs=Inputs.BOTH, decoder_channels=3)
    alphas, betas = Architecture(spec, torch.Generator().manual_seed(0))()
    assert spec.edges == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (3, 4))
    torch.testing.assert_close(alphas.sum(1), torch.ones(9))
    torch.testing.assert_close(torch.stack([b.sum() for b in betas.split((2, 3, 4))]), torch.ones(3))


def test_the_shuffle_is_the_published_one_where_k_divides_the_channels():
    x = torch.arange(12.0).view(1, 12, 1)
    published = x.view(1, 4, 3, 1).transpose(1, 2).reshape(1, 12, 1)
    spec = CellSpec(12, 1, width=1.0, partial=4)
    assert torch.equal(x[:, shuffle_order(spec, x.device)], published)


@pytest.mark.parametrize("inner", [5, 7, 10, 13])
def test_the_shuffle_loses_no_channel_where_k_does_not_divide(inner):
    spec = CellSpec(inner, 1, width=1.0, partial=4)
    assert sorted(shuffle_order(spec, torch.device("cpu")).tolist()) == list(range(inner))


def test_a_state_is_worked_out_by_hand():
    """One state, identity and none, K = 4 of 4 channels: beta is 1, alpha mixes the first channel."""
    spec = CellSpec(4, 1, width=1.0, states=1, operations=("none", "identity"))
    cell = build(SearchCell, spec)
    with torch.no_grad():
        cell.architecture.alpha.copy_(torch.tensor([[0.0, torch.tensor(3.0).log()]]))  # softmax: 1/4, 3/4
        cell.entry.reductions[0][0].weight.copy_(torch.eye(4)[..., None])
        cell.exit.expansion.weight.copy_(torch.eye(4)[..., None])
        cell.exit.expansion.bias.zero_()
        cell.exit.gamma.fill_(1.0)
    x = torch.tensor([[[4.0], [5.0], [6.0], [7.0]]])
    expected = x + torch.tensor([[[3.0], [5.0], [6.0], [7.0]]])
    torch.testing.assert_close(cell.eval()(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", SEARCH_CELLS)
def test_rotation_operates_on_every_channel_in_turn(kind):
    spec = CellSpec(8, 1, width=1.0, states=1, operations=("none", "identity"))
    cell = build(kind, spec).eval()
    x, still = torch.ones(1, 8, 3), []
    with torch.no_grad():
        cell.entry.reductions[0][0].weight.copy_(torch.eye(8)[..., None])
        cell.exit.expansion.weight.copy_(torch.eye(8)[..., None])
        cell.exit.expansion.bias.zero_()
        cell.exit.gamma.fill_(1.0)
        for step in range(4):
            cell.rotate(step)
            gained = (cell(x) - x)[0, :, 0]
            order = shuffle_order(spec, x.device)
            still += order[gained < 0.75].tolist()
    assert sorted(still) == list(range(8))


@pytest.mark.parametrize(("channels", "size"), [(256, 1), (512, 2)])
@pytest.mark.parametrize("kind", SEARCH_CELLS)
def test_a_cell_trains_on_a_single_image_at_the_bottom_of_a_u(kind, channels, size):
    spec = CellSpec(channels, 2, states=2)
    cell = build(kind, spec).train()
    nn.init.ones_(cell.exit.gamma)
    out = cell(features(spec, size=size, batch=1))
    out.sum().backward()
    assert out.isfinite().all()


def test_a_state_without_an_edge_is_refused():
    with pytest.raises(InputError, match="state1 has no edge"):
        DerivedCell(CellSpec(16, 2, states=2), CellGenotype(0.25, SMALL.edges[:1]))


def test_a_derived_cell_of_an_unknown_operation_is_refused():
    genotype = CellGenotype(0.25, (Edge("input0", "state0", "warp"),))
    with pytest.raises(InputError, match="unknown operation 'warp'"):
        DerivedCell(CellSpec(16, 2, states=1), genotype)


@pytest.mark.parametrize("kind", SEARCH_CELLS)
def test_architecture_weights_of_another_cell_are_refused(kind):
    architecture = Architecture(CellSpec(16, 2, states=3))
    with pytest.raises(
        InputError, match=r"alpha is for \(6, 9\) edges and operations, the cell has \(3, 9\)"
    ):
        kind(CellSpec(16, 2, states=2), architecture)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"channels": 0}, "channels is 0"),
        ({"states": 0}, "states is 0"),
        ({"partial": 0}, "partial is 0"),
        ({"spatial_dims": 4}, "spatial_dims is 4"),
        ({"width": 0.0}, "width is 0.0"),
        ({"inputs": Inputs.BOTH}, "decoder_channels is 0"),
        ({"operations": ("none",)}, "the operations hold nothing but none"),
    ],
)
def test_a_spec_that_makes_no_cell_is_refused(changes, text):
    with pytest.raises(InputError, match=text):
        CellSpec(**{"channels": 16, "spatial_dims": 2, **changes})


def test_a_spec_comes_back_from_json_text():
    import json

    spec = CellSpec(
        16, 3, decoder_channels=8, inputs=Inputs.BOTH, merge=CellMerge.REPLACE, operations=("sep3",)
    )
    assert CellSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


OWN = with_operations(
    {"own": lambda channels, spatial_dims, affine: nn.Sequential(nn.Tanh(), nn.PReLU(channels))}
)


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("channels", "partial", "inputs", "step"),
    [(48, 4, Inputs.ENCODER, 0), (20, 3, Inputs.BOTH, 2), (8, 4, Inputs.ENCODER, 1), (24, 1, Inputs.BOTH, 0)],
)
def test_the_batched_cell_equals_the_reference_in_output_and_every_gradient(
    spatial_dims, channels, partial, inputs, step
):
    spec = CellSpec(
        channels,
        spatial_dims,
        decoder_channels=7,
        inputs=inputs,
        partial=partial,
        states=3,
        operations=tuple(OWN),
    )
    reference = SearchCell(spec, Architecture(spec), OWN).double()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_()
    batched = BatchedSearchCell(spec, Architecture(spec), OWN).double().from_reference(reference)
    x = torch.randn(2, channels, *(5,) * spatial_dims, dtype=torch.float64)
    decoder = [torch.randn(2, 7, *(5,) * spatial_dims, dtype=torch.float64)] * (inputs.number - 1)
    outs, weight = [], torch.randn_like(x)
    for cell in (reference, batched):
        cell.rotate(step)
        outs.append(cell(x, *decoder))
        (outs[-1] * weight).mean().backward()
    torch.testing.assert_close(outs[1], outs[0], rtol=1e-10, atol=1e-10)
    # The batched cell's gradients, put where its weights would go in a reference cell.
    gradients, holder = copy.deepcopy(batched), SearchCell(spec, Architecture(spec), OWN).double()
    with torch.no_grad():
        for mine, source in zip(gradients.parameters(), batched.parameters(), strict=True):
            mine.copy_(source.grad)
    gradients.to_reference(holder)
    for (name, found), parameter in zip(holder.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-10, atol=1e-10, msg=name)


def test_weights_go_to_the_reference_and_back_unchanged():
    spec = CellSpec(20, 2, states=3)
    batched = build(BatchedSearchCell, spec)
    batched(features(spec))  # running statistics of its own
    back = build(BatchedSearchCell, spec, seed=1).from_reference(
        batched.to_reference(build(SearchCell, spec, 2))
    )
    for name, value in batched.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_the_batched_cell_keeps_the_references_running_statistics_and_uses_them_alike(spatial_dims):
    spec = CellSpec(20, spatial_dims, states=3, partial=3)
    reference = build(SearchCell, spec).double()
    nn.init.ones_(reference.exit.gamma)
    batched = build(BatchedSearchCell, spec).double().from_reference(reference)
    for _ in range(3):
        x = torch.randn(2, 20, *(5,) * spatial_dims, dtype=torch.float64)
        reference(x), batched(x)
    copied = batched.to_reference(build(SearchCell, spec, 2).double())
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(copied.state_dict()[name], value, rtol=1e-10, atol=1e-10, msg=name)
    torch.testing.assert_close(batched.eval()(x), reference.eval()(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
@pytest.mark.parametrize(
    "names", [("sep3", "sep5", "dil3"), ("dil5", "pointwise", "avg3"), ("max3", "identity", "own")]
)
def test_a_derived_cell_trains_by_rows_as_it_does_layer_by_layer(spatial_dims, names):
    edges = [Edge("input0", "state0", name) for name in names[:2]] + [Edge("state0", "state1", names[2])]
    spec = CellSpec(12, spatial_dims, states=2)
    plain = DerivedCell(spec, CellGenotype(0.25, tuple(edges)), OWN).double()
    nn.init.ones_(plain.exit.gamma)
    fast = copy.deepcopy(plain)
    x = torch.randn(2, 12, *(5,) * spatial_dims, dtype=torch.float64)
    gradient = torch.randn_like(x)
    states = plain.entry(x, None)
    for incoming in plain._plan:
        states.append(sum(plain.operations[index](states[source]) for index, source in incoming))
    expected = plain.exit(x, states[1:])
    found = fast(x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for out in (found, expected):
        out.backward(gradient)
    for (name, mine), theirs in zip(fast.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-9, msg=name)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[name], value, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize(
    "gone", [("sep5",), ("identity", "max3", "avg3", "sep3", "sep5", "dil3", "dil5", "pointwise")]
)
def test_what_is_pruned_on_every_edge_is_not_computed(gone):
    spec = CellSpec(16, 2, states=2)
    reference = build(SearchCell, spec).double()
    nn.init.ones_(reference.exit.gamma)
    batched = build(BatchedSearchCell, spec).double().from_reference(reference)
    columns = [spec.operations.index(name) for name in gone]
    for cell in (reference, batched):
        cell.architecture.kept[:, columns] = False
    for fan in batched.fans:
        for name in gone:
            fan.operations[name] = None
    x = features(spec).double()
    torch.testing.assert_close(batched(x), reference(x), rtol=1e-10, atol=1e-10)


def test_a_settled_cell_can_be_differentiated_twice():
    """The collapse guard looks at second derivatives, in eval mode."""
    spec, found = CellSpec(16, 2, states=2), []
    reference = build(SearchCell, spec).double()
    nn.init.ones_(reference.exit.gamma)
    batched = build(BatchedSearchCell, spec).double().from_reference(reference)
    x = features(spec).double()
    for cell in (reference, batched):
        alpha = cell.eval().architecture.alpha
        (first,) = torch.autograd.grad(cell(x).square().mean(), alpha, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), alpha)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)


def test_masks_are_read_again_when_they_are_written_to():
    architecture = Architecture(CellSpec(channels=8, spatial_dims=2, states=2, operations=("none", "sep3")))
    assert architecture.open_operations() == ((True, True),) * 3
    assert architecture.open_operations() is architecture.open_operations()
    architecture.kept[1, 0] = False
    assert architecture.open_operations() == ((True, True), (False, True), (True, True))
    architecture.kept_edges[0] = False
    assert architecture.open_operations()[0] == (False, False)
    other = Architecture(CellSpec(channels=8, spatial_dims=2, states=2, operations=("none", "sep3")))
    architecture.load_state_dict(other.state_dict())
    assert architecture.open_operations() == ((True, True),) * 3
    copied = copy.deepcopy(architecture)
    copied.kept[2] = False
    assert copied.open_operations()[2] == (False, False)
    assert architecture.open_operations()[2] == (True, True)
