"""The processes that a launcher such as `torchrun` started for one command: which one this is, who speaks.

Nothing here needs torch until a process has something to say to the others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

_PATIENCE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that were started together.

    Attributes:
        rank: its number, from 0; 0 writes and speaks.
        size: how many there are, on all machines.
        local_size: how many of them there are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @classmethod
    def of_environment(cls) -> Ranks:
        """Read what `torchrun` says; a process that it did not start is alone."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0


def connect() -> Store | None:
    """Return a connection of its own to the launcher's store of keys; None where it cannot be reached."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=_PATIENCE
        )
    except (KeyError, ValueError, RuntimeError):
        return None
    return PrefixStore(f"surgeon/{os.environ.get('TORCHELASTIC_RUN_ID')}/{attempt}", store)


@contextlib.contextmanager
def speaking(ranks: Ranks) -> Iterator[bool]:
    """Let the first process that comes here speak for all, and the others leave only after it has spoken.

    A launcher ends every process as soon as one has failed; the words of that one must be out by then.

    Yields:
        whether this process is the one to speak.
    """
    store = connect() if ranks.size > 1 else None
    if store is None:
        yield True
        return
    speaks = store.add("failures", 1) == 1
    yield speaks
    if speaks:
        store.set("spoken", "1")
        return
    with contextlib.suppress(RuntimeError):  # it waited long enough, or the store is gone
        store.wait(["spoken"], _PATIENCE)
