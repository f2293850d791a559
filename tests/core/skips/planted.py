"""U-Nets from a small spec, which know the skips that were planted in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.core.networks import CONVOLUTION, conv

WIDTH = 4  # channels at every level
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
SMALLEST = {1: 16, 2: 4, 3: 3}  # size at the bottom


@dataclass(frozen=True)
class Spec:
    """What to plant and what to put around it.

    Attributes:
        dims: spatial dimensions.
        depth: number of skips.
        merge: `cat` or `add`.
        skip_first: whether the skip is the first operand.
        up: `conv` (resize, then a convolution), `plain` (resize alone) or `transposed`.
        down: `pool` or `stride`.
        gate: `none`, `attention` (the decoder gates the skip) or `squeeze` (the skip gates its channels).
        project: a convolution on the skip.
        extra: added to a size that halves evenly; odd ones are resized or padded to match.
        residual: residual blocks in encoder and decoder.
        pyramid: parallel dilated branches at the bottom.
        heads: answers at every level of the decoder.
    """

    dims: int
    depth: int
    merge: str
    skip_first: bool
    up: str
    down: str
    gate: str
    project: bool
    extra: int
    residual: bool
    pyramid: bool
    heads: bool

    @property
    def size(self) -> int:
        return SMALLEST[self.dims] * 2**self.depth + self.extra

    @property
    def kind(self) -> str:
        """A projected map added to one that is only resized is a lateral link."""
        lateral = self.merge == "add" and self.project and self.up == "plain"
        return "lateral" if lateral else "skip"


class Planted(nn.Module):
    """A U-Net of a spec."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        inputs = [1] + [WIDTH] * spec.depth
        self.encoder = nn.ModuleList([Stage(spec, channels) for channels in inputs])
        self.down = nn.ModuleList([Down(spec) for _ in range(spec.depth)])
        self.bottom = Branches(spec) if spec.pyramid else nn.Identity()
        self.joins = nn.ModuleList([PlantedJoin(spec) for _ in range(spec.depth)])
        self.answers = nn.ModuleList([conv(WIDTH, 2, spec.dims, kernel=1) for _ in range(spec.depth)])

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        skips = []
        for stage, down in zip(self.encoder, self.down, strict=False):
            x = stage(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(self.encoder[-1](x))
        answers = []
        for level in reversed(range(self.spec.depth)):
            x = self.joins[level](x, skips[level])
            answers.append(self.answers[level](x))
        return answers[::-1] if self.spec.heads else answers[-1]

    def image(self) -> Tensor:
        return torch.rand(1, 1, *[self.spec.size] * self.spec.dims)

    def planted(self) -> list[tuple[str, str, str, tuple[int, ...]]]:
        """Return kind, merge, module and shape of every skip, from the spec and the encoder's arithmetic."""
        size, rows = self.spec.size, []
        for level in range(self.spec.depth):
            shape = (1, WIDTH, *[size] * self.spec.dims)
            rows.append((self.spec.kind, self.spec.merge, f"joins.{level}", shape))
            size = size // 2 if self.spec.down == "pool" else (size + 1) // 2
        return rows


class Stage(nn.Module):
    """A convolution and, on request, a residual block around two more."""

    def __init__(self, spec: Spec, inputs: int) -> None:
        super().__init__()
        self.first = conv(inputs, WIDTH, spec.dims)
        layers = [conv(WIDTH, WIDTH, spec.dims), nn.ReLU(), conv(WIDTH, WIDTH, spec.dims)]
        self.residual = nn.Sequential(*layers) if spec.residual else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return x if self.residual is None else F.relu(x + self.residual(x))


class Down(nn.Module):
    """Half the size, by a pool or by a strided convolution."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.pool = POOL[spec.dims]
        self.conv = conv(WIDTH, WIDTH, spec.dims, stride=2) if spec.down == "stride" else None

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, 2) if self.conv is None else self.conv(x)


class Branches(nn.Module):
    """A pyramid of dilations with a pooled branch, concatenated."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        make = CONVOLUTION[spec.dims]
        self.branches = nn.ModuleList([make(WIDTH, WIDTH, 3, padding=d, dilation=d) for d in (1, 2)])
        self.pooled, self.project = conv(WIDTH, WIDTH, spec.dims, kernel=1), conv(3 * WIDTH, WIDTH, spec.dims)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.pooled(x.mean(tuple(range(2, x.ndim)), keepdim=True)).expand_as(x)
        return self.project(torch.cat([mean, *(F.relu(branch(x)) for branch in self.branches)], 1))


class PlantedJoin(nn.Module):
    """Where a planted skip meets the decoder."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.enlarge = TRANSPOSED[spec.dims](WIDTH, WIDTH, 2, 2) if spec.up == "transposed" else None
        self.after = conv(WIDTH, WIDTH, spec.dims) if spec.up == "conv" else nn.Identity()
        self.gate = conv(WIDTH, WIDTH, spec.dims, kernel=1) if spec.gate != "none" else None
        self.project = conv(WIDTH, WIDTH, spec.dims, kernel=1) if spec.project else nn.Identity()
        self.stage = Stage(spec, 2 * WIDTH if spec.merge == "cat" else WIDTH)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x, skip = self._enlarged(x, skip), self.project(skip)
        if self.gate is not None:
            looked_at = skip + x if self.spec.gate == "attention" else F.relu(skip).mean((2,), keepdim=True)
            skip = skip * torch.sigmoid(self.gate(looked_at))
        pair = [skip, x] if self.spec.skip_first else [x, skip]
        return self.stage(torch.cat(pair, 1) if self.spec.merge == "cat" else pair[0] + pair[1])

    def _enlarged(self, x: Tensor, skip: Tensor) -> Tensor:
        if self.enlarge is None:
            return self.after(F.interpolate(x, size=skip.shape[2:], mode="nearest"))
        x = self.enlarge(x)
        missing = [(0, skip.shape[axis] - x.shape[axis]) for axis in reversed(range(2, x.ndim))]
        return F.pad(x, [side for pair in missing for side in pair])


class Nested(nn.Module):
    """A U-Net++ of a spec: node (level, column) meets all earlier nodes of its level; column 0 encodes.

    The earlier nodes enter one concatenation as they are (gate `none`), one after the other (`attention`), or
    concatenated before they meet what comes from below (`squeeze`).
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = nn.ModuleList(
            [Stage(spec, 1 if level == 0 else WIDTH) for level in range(spec.depth + 1)]
        )
        self.down = nn.ModuleList([Down(spec) for _ in range(spec.depth)])
        self.nodes = nn.ModuleDict({f"x_{i}_{j}": NestedJoin(spec, j) for i, j in self.places()})
        self.answers = nn.ModuleList([conv(WIDTH, 2, spec.dims, kernel=1) for _ in range(spec.depth)])

    def places(self) -> list[tuple[int, int]]:
        """Return level and column of all nodes that merge, in an order in which they can be computed."""
        depth = self.spec.depth
        return [(level, column) for column in range(1, depth + 1) for level in range(depth + 1 - column)]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        grid = {}
        for level, stage in enumerate(self.encoder):
            grid[level, 0] = stage(x if level == 0 else self.down[level - 1](grid[level - 1, 0]))
        for i, j in self.places():
            grid[i, j] = self.nodes[f"x_{i}_{j}"](grid[i + 1, j - 1], [grid[i, k] for k in range(j)])
        answers = [answer(grid[0, j]) for j, answer in enumerate(self.answers, 1)]
        return answers if self.spec.heads else answers[-1]

    def image(self) -> Tensor:
        return torch.rand(1, 1, *[self.spec.size] * self.spec.dims)

    def planted(self) -> list[tuple[str, str, str, tuple[int, ...]]]:
        """Return kind, merge, module and shape of every link, one for each earlier node of the level."""
        sizes = [self.spec.size]
        for _ in range(self.spec.depth):
            sizes.append(sizes[-1] // 2 if self.spec.down == "pool" else (sizes[-1] + 1) // 2)
        rows = []
        for level, column in self.places():
            channels = WIDTH * column if self.spec.gate == "squeeze" else WIDTH
            shape = (1, channels, *[sizes[level]] * self.spec.dims)
            kind = "skip" if column == 1 else "dense"
            rows += [(kind, "cat", f"nodes.x_{level}_{column}", shape)] * column
        return sorted(rows)


class NestedJoin(PlantedJoin):
    """Where the earlier nodes of a level meet what comes from below."""

    def __init__(self, spec: Spec, column: int) -> None:
        super().__init__(replace(spec, merge="cat", gate="none", project=False))
        self.gathering = spec.gate
        self.stage = Stage(spec, (column + 1) * WIDTH)

    def forward(self, x: Tensor, earlier: list[Tensor]) -> Tensor:
        x = self._enlarged(x, earlier[0])
        if self.gathering == "attention":
            for skip in earlier:
                x = torch.cat([skip, x] if self.spec.skip_first else [x, skip], 1)
            return self.stage(x)
        grouped = self.gathering == "squeeze" and len(earlier) > 1
        skips = [torch.cat(earlier, 1)] if grouped else earlier
        return self.stage(torch.cat([*skips, x] if self.spec.skip_first else [x, *skips], 1))
