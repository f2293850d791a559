"""When an edge's choice is made: weights that stand still AND have come apart, not weights that never moved.

A test of standing still alone calls every search stable at its first epoch, because alpha moves by no more
than its learning rate a step. So an edge counts as stable only after some epochs of moving, when its weights
have hardly changed over a window (Jensen-Shannon divergence, arXiv 2604.14849) and the first operation leads
the second by a margin, or their entropy has fallen to that of few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..cells import Architecture
from ..config import Config
from ..fleet import Fleet
from ..genotype import Genotype

LEAST_KEPT = 3
"""Operations that an edge keeps until the end: what is chosen in the end is among its first three."""
_LOW_ENTROPY = 0.5


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two distributions `(..., O)` as a share of its maximum, ln 2.

    >>> float(divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])))
    1.0
    """
    middle = (first + second) / 2
    parts = [torch.special.xlogy(x, x / middle.clamp_min(1e-30)).sum(-1) for x in (first, second)]
    found: Tensor = (parts[0] + parts[1]) / (2 * math.log(2))
    return found


def margin(weights: Tensor) -> Tensor:
    """Return the log of the ratio between the first and the second of weights `(..., O)`."""
    top = weights.topk(min(2, weights.shape[-1]), dim=-1).values.clamp_min(1e-30).log()
    return top[..., 0] - top[..., -1] if weights.shape[-1] > 1 else torch.full(top.shape[:-1], math.inf)


def entropy(weights: Tensor) -> Tensor:
    """Return the entropy of weights `(..., O)` as a share of the largest there can be."""
    found: Tensor = -torch.special.xlogy(weights, weights).sum(-1) / math.log(max(2, weights.shape[-1]))
    return found


@dataclass(slots=True)
class Watch:
    """The weights of every epoch in which they moved, and what they say.

    Attributes:
        config: when an edge is stable.
        seen: softmax(alpha) `(E, O)` by name, epoch after epoch, from the first in which alpha moved.
        healthy: alpha and beta of the last epoch whose selection had not collapsed, by name.
        collapsed: epochs since then.
        eigenvalues: of the Hessian, epoch after epoch, where they are watched.
    """

    config: Config
    seen: list[dict[str, Tensor]] = field(default_factory=list)
    healthy: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    collapsed: int = 0
    eigenvalues: list[float] = field(default_factory=list)

    @torch.no_grad()
    def see(
        self, architectures: Mapping[str, Architecture], identities: float, eigenvalue: float | None = None
    ) -> str:
        """Take in an epoch's end, prune what is stable, and say why the search ends; empty while it goes on.

        A selection that collapsed, or an eigenvalue that ran away, takes alpha and beta back to the last
        epoch before.

        Args:
            architectures: by name; they change where they are pruned or rolled back.
            identities: share of identities in what would be selected now.
            eigenvalue: dominant eigenvalue of the architecture's Hessian, where it is watched.
        """
        self.seen.append({name: one()[0].detach().cpu().clone() for name, one in architectures.items()})
        self.eigenvalues += [] if eigenvalue is None else [eigenvalue]
        young = len(self.seen) < self.config.stable_after
        if young or (identities <= self.config.identity_share and not self._ran_away()):
            self.healthy = {
                name: {k: v.detach().cpu().clone() for k, v in one.state_dict().items()}
                for name, one in architectures.items()
            }
            self.collapsed = 0
        else:
            self.collapsed += 1
        if self.collapsed > self.config.stable_window and self.healthy:
            for name, one in architectures.items():
                one.load_state_dict(self.healthy[name])
            what = "the Hessian's eigenvalue ran away" if self._ran_away() else "identities took over"
            return f"{what}: back to the architecture of {self.collapsed} epochs before"
        stable, still = self.stable(), self.still()
        gone = sum(prune(one, stable[n]) for n, one in architectures.items()) if self.config.prune else 0
        share = float(torch.cat(list(stable.values())).float().mean())
        if self.config.early and not gone and still and share >= self.config.stable_share:
            return f"its choice was stable on {100 * share:.0f} % of the edges, and nothing moved any more"
        return ""

    def _ran_away(self) -> bool:
        """Tell whether the mean eigenvalue of five epochs grew by 1.3 over four epochs (RobustDARTS)."""
        means = [sum(self.eigenvalues[i : i + 5]) / 5 for i in range(len(self.eigenvalues) - 4)]
        return len(means) > 4 and means[-1] > 1.3 * means[-5]

    def still(self) -> bool:
        """Tell whether no edge has moved over the window, those that nothing moves included."""
        if not self._is_old_enough():
            return False
        return all(bool(self._stands(name).all()) for name in self.seen[-1])

    def stable(self) -> dict[str, Tensor]:
        """Return for each cell which of its edges `(E,)` are stable: they stand, and have come apart."""
        now = self.seen[-1]
        if not self._is_old_enough():
            return {name: torch.zeros(len(x), dtype=torch.bool) for name, x in now.items()}
        return {name: self._stands(name) & self._is_apart(x) for name, x in now.items()}

    def _is_old_enough(self) -> bool:
        return len(self.seen) >= max(self.config.stable_after, self.config.stable_window + 1)

    def _stands(self, name: str) -> Tensor:
        """Tell which edges of a cell are close to where they were in every epoch of the window.

        What was pruned since then is left out of both: that is no movement.
        """
        *before, now = [epoch[name] for epoch in self.seen[-1 - self.config.stable_window :]]
        left = (torch.where(now > 0, one, 0.0) for one in before)
        apart = [divergence(one / one.sum(-1, keepdim=True).clamp_min(1e-30), now) for one in left]
        return torch.stack(apart).amax(0) <= self.config.stable_divergence

    def _is_apart(self, now: Tensor) -> Tensor:
        return (margin(now) >= self.config.stable_margin) | (entropy(now) <= _LOW_ENTROPY)

    def state_dict(self) -> dict[str, Any]:
        """Return plain tensors."""
        return {name: getattr(self, name) for name in ("seen", "healthy", "collapsed", "eigenvalues")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.seen, self.healthy = list(state["seen"]), dict(state["healthy"])
        self.collapsed, self.eigenvalues = state["collapsed"], list(state["eigenvalues"])


@torch.no_grad()
def prune(architecture: Architecture, stable: Tensor) -> int:
    """Take the weakest half of the operations of stable edges out; return how many went.

    What is left of an edge is never less than three operations, and never `none` alone.

    Args:
        architecture: whose mask narrows.
        stable: which edges are stable `(E,)`.
    """
    weights = architecture()[0]
    gone = 0
    for edge in stable.nonzero().flatten().tolist():
        kept = architecture.kept[edge]
        left = int(kept.sum())
        target = max(LEAST_KEPT, math.ceil(left / 2))
        ranked = sorted(kept.nonzero().flatten().tolist(), key=lambda column: float(weights[edge, column]))
        for column in ranked[: max(0, left - target)]:
            kept[column] = False
            gone += 1
    return gone


def identity_share(genotype: Genotype) -> float:
    """Return the share of identities among the operations of a genotype."""
    names = [edge.operation for _, cell in genotype.cells if cell for edge in cell.edges]
    return sum(name == "identity" for name in names) / max(1, len(names))


def dominant_eigenvalue(
    loss: Tensor,
    parameters: Sequence[nn.Parameter],
    generator: torch.Generator,
    fleet: Fleet | None = None,
    rounds: int = 10,
) -> float:
    """Return the eigenvalue of largest size of the Hessian of a loss, by power iteration.

    Args:
        loss: a scalar whose graph is kept.
        parameters: that the Hessian is of.
        generator: of the first direction.
        fleet: the processes that share the loss.
        rounds: products with the Hessian.
    """
    fleet = fleet or Fleet()
    gradient = torch.autograd.grad(loss / fleet.size, parameters, create_graph=True)
    flat = torch.cat([part.flatten() for part in gradient])
    direction = torch.randn(flat.shape, generator=generator).to(flat)
    value = 0.0
    for _ in range(rounds):
        direction = direction / direction.norm().clamp_min(1e-30)
        product = torch.autograd.grad(flat @ direction, parameters, retain_graph=True)
        turned = torch.cat([part.flatten() for part in fleet.add_up(product)])
        value = float(turned @ direction)
        direction = turned
    return value
