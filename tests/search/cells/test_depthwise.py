from __future__ import annotations

import pytest
import torch
from surgeon.search.cells.depthwise import average, depthwise
from torch.nn import functional as F

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
SIZES = {1: (11,), 2: (9, 7), 3: (5, 6, 7)}


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_depthwise_convolution_equals_torchs_in_output_and_gradients(dims, kernel, dilation):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *SIZES[dims], dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, *(kernel,) * dims, dtype=torch.float64, requires_grad=True)
    padding = dilation * (kernel - 1) // 2
    theirs = CONVOLVE[dims](x, weight, None, 1, padding, dilation, 3)
    ours = depthwise(x, weight, dilation)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    gradient = torch.randn_like(theirs)
    expected = torch.autograd.grad(theirs, (x, weight), gradient)
    found = torch.autograd.grad(ours, (x, weight), gradient)
    for mine, theirs_ in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs_, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_an_average_equals_torchs_pool_at_the_border_too(dims):
    x = torch.randn(2, 3, *SIZES[dims], dtype=torch.float64, requires_grad=True)
    theirs = AVERAGE[dims](x, 3, 1, 1, count_include_pad=False)
    ours = average(x)
    torch.testing.assert_close(ours, theirs)
    gradient = torch.randn_like(theirs)
    expected, found = (torch.autograd.grad(out, x, gradient)[0] for out in (theirs, ours))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [1, 2])
def test_maps_smaller_than_the_kernel_are_averaged_and_convolved(size):
    x = torch.randn(1, 2, size, size, dtype=torch.float64)
    weight = torch.randn(2, 1, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(depthwise(x, weight, 2), F.conv2d(x, weight, None, 1, 4, 2, 2))
    torch.testing.assert_close(average(x), F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
