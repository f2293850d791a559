"""One of several processes that operate on the small host together.

torchrun --nproc-per-node 2 -m tests.search.crew DATA RUN [--resume] [--stop RANK] [--fail RANK] [--pause]
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

import torch
from surgeon.search import implant
from surgeon.search.training.bilevel import SearchPhase

from surgeon.cli.answer import answering
from surgeon.errors import DataError
from surgeon.ranks import Ranks

from .small import make_config, make_host, open_small

CONFIG = {"epochs": 3, "steps": 3, "batch_size": 3, "retrain_rate": 0.02, "retrain_epochs": 2}


def disturb(options: argparse.Namespace) -> None:
    """Let one process be asked to stop, or fail, in the second epoch of the search."""
    plain, rank = SearchPhase.step, Ranks.of_environment().rank

    def step(phase: SearchPhase, epoch: int, number: int) -> float:
        if (epoch, number) == (1, 1) and rank == options.stop:
            signal.raise_signal(signal.SIGTERM)
        if (epoch, number) == (1, 1) and rank == options.fail:
            raise DataError("the disk of this machine is gone", where=f"process {rank}")
        if (epoch, number) == (1, 1) and options.pause:
            print("pausing", file=sys.__stdout__, flush=True)
            time.sleep(5)  # the signal comes meanwhile
        return plain(phase, epoch, number)

    SearchPhase.step = step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop", type=int)
    parser.add_argument("--fail", type=int)
    parser.add_argument("--pause", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    disturb(options)
    with answering(traceback=False):
        implant(
            make_host(),
            open_small(options.data),
            make_config(**CONFIG),
            out=options.run,
            resume=options.resume,
        )


if __name__ == "__main__":
    import typer

    try:
        main()
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
