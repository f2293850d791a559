"""Randomness that depends on a seed alone and leaves the caller's own generators as they were."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def seed_for(seed: int, purpose: str) -> int:
    """Derive a seed for one purpose, so that no two purposes draw the same numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:7], "big")


def generator_for(seed: int, purpose: str) -> torch.Generator:
    """Return a generator of its own for one purpose."""
    return torch.Generator().manual_seed(seed_for(seed, purpose))


@contextlib.contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Seed torch's generators inside the block and give them back their state after it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, purpose))
        yield


def rng_state() -> dict[str, object]:
    """Return the state of torch's generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_rng(state: dict[str, object]) -> None:
    """Bring torch's generators back to what `rng_state` returned."""
    torch.set_rng_state(state["cpu"])  # type: ignore[arg-type]
    cuda = state["cuda"]
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)  # type: ignore[arg-type]
