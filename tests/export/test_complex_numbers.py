"""Operations on complex numbers, written by real ones."""

import pytest
import torch
from surgeon.export import complex_numbers as by_pairs
from surgeon.export import to_onnx
from surgeon.export.runtime import open_session, run_session
from torch import nn

from .networks import stir


def spectrum(*size):
    return torch.randn(*size, dtype=torch.complex128)


X, Y = spectrum(2, 4, 5, 6), spectrum(2, 4, 5, 6)


@pytest.mark.parametrize("real", [(), (0,), (1,), (2,)])
def test_a_sum_of_products_is_torchs(real):
    operands = [spectrum(2, 4, 5), spectrum(4, 3), spectrum(3, 6)]
    operands = [x.real if index in real else x for index, x in enumerate(operands)]
    equation = "bix,io,oz->bzx"
    torch.testing.assert_close(
        by_pairs.sum_products(equation, operands),
        torch.einsum(equation, [x.to(torch.complex128) for x in operands]),
        atol=1e-12,
        rtol=0,
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (by_pairs.scale(X, 2 - 3j), X * (2 - 3j)),
        (by_pairs.scale(X.real, 1j), X.real * 1j),
        (by_pairs.scale(X, Y), X * Y),
        (by_pairs.exponentiate(X), X.exp()),
        (by_pairs.zeros((2, 3), dtype=torch.complex128), torch.zeros(2, 3, dtype=torch.complex128)),
        (by_pairs.zeros_like(X), torch.zeros_like(X)),
        (by_pairs.copy(X, Y[:1]), Y[:1].expand_as(X)),
        (by_pairs.expand(X[:, :1], [2, 7, -1, 6]), X[:, :1].expand(2, 7, -1, 6)),
        (by_pairs.choose(X.real > 0, X, Y.real), torch.where(X.real > 0, X, Y.real)),
        (by_pairs.slice_scatter(X, Y[..., :3], -1, 2, 5), torch.slice_scatter(X, Y[..., :3], -1, 2, 5)),
        (by_pairs.pad(X, (1, 2, 0, 3)), nn.functional.pad(X, (1, 2, 0, 3))),
        (by_pairs.pad(X, (1, 2), "constant", 3), nn.functional.pad(X, (1, 2), value=3)),
        (by_pairs.pad_by(X, (0, 0, 1, 2)), nn.functional.pad(X, (0, 0, 1, 2))),
        (by_pairs.roll(X, (2, -1), (-1, 0)), X.roll((2, -1), (-1, 0))),
        (by_pairs.roll(X.real, (9,), (2,)), X.real.roll(9, 2)),
        (by_pairs.shift(X), torch.fft.fftshift(X)),
        (by_pairs.shift_back(X, [2]), torch.fft.ifftshift(X, [2])),
        (by_pairs.split(X, [1, 3], 1)[1], X[:, 1:]),
        (by_pairs.split(X, 4, -1)[1], X[..., 4:]),
        (by_pairs.chunk(X, 2, -3)[1], X[:, 2:]),
    ],
)
def test_each_is_torchs(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


class Spectral(nn.Module):
    """A convolution of the lowest frequencies, as Fourier neural operators have it, in a small network."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(2, 4, 4, 3, 3, dtype=torch.complex64))
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.conv(x).relu()
        spectrum = torch.fft.rfft2(x)
        kept = torch.zeros(*spectrum.shape, dtype=torch.complex64)
        for rows, weight in zip((slice(3), slice(-3, None)), self.weight, strict=True):
            kept[:, :, rows, :3] = torch.einsum("bixy,ioxy->boxy", spectrum[:, :, rows, :3], weight)
        return self.out(torch.cat([x, torch.fft.irfft2(kept, s=x.shape[2:])], 1))


class Shifted(nn.Module):
    """Frequencies away from the middle are weakened."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        middle = torch.fft.fftshift(torch.fft.fft2(self.conv(x)), (2, 3))
        weak = middle * torch.exp(-middle.abs() / 50) * torch.exp(0.1j * middle.angle())
        halves = torch.where(middle.abs() > 1, weak, torch.zeros_like(weak)).chunk(2, 1)
        return torch.fft.ifft2(torch.fft.ifftshift(torch.cat(halves[::-1], 1), (2, 3))).real


@pytest.mark.parametrize("kind", [Spectral, Shifted])
def test_a_network_with_spectra_is_exported_with_free_sizes(kind, tmp_path):
    torch.manual_seed(0)
    network = stir(kind())
    artifact = to_onnx(network, torch.rand(1, 1, 16, 16), tmp_path / "out")
    assert artifact.freedom.sizes
    x = torch.rand(2, 1, 24, 18)
    with torch.no_grad():
        torch.testing.assert_close(
            run_session(open_session(artifact.model), x)[0], network(x), atol=1e-4, rtol=0
        )
