"""Brief trainings: what an entrant shows in few steps, and with which learning rate it shows most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from surgeon.scores import Scores

from ..config import Config
from ..genotype import Genotype
from ..planning import Plan
from ..training.loop import Loop
from ..training.stages import train_genotype
from .panel import Panel

RATES = {"": 1.0, "slower": 0.3, "faster": 3.0}
"""Learning rates that are tried, as shares of the set one: what is right differs tenfold among hosts."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a brief training came to.

    Attributes:
        rate: its learning rate.
        scores: of the judges.
        seconds: of all trainings, those with other rates included.
    """

    rate: float
    scores: Scores
    seconds: float


class Trials:
    """Trains briefly what goes onto the skips of a host, and has it judged.

    No state of a brief training is chosen by the validation cases, so its Dice is followed on few of them.

    Args:
        plan: host and data.
        loop: what runs the phases.
        panel: who trains and who judges.
    """

    def __init__(self, plan: Plan, loop: Loop, panel: Panel) -> None:
        self._plan, self._loop, self._panel = plan, loop, panel

    def run(self, name: str, genotype: Genotype, config: Config) -> Tried:
        """Train once for each fold of the panel.

        Args:
            name: of the phases.
            genotype: what goes onto the skips.
            config: epochs and rate of the training, and what else moves.

        Raises:
            Stopped: the user stopped it.
            GateError: the loss is no number, or the host changed.
        """
        networks, seconds = [], 0.0
        for fold, supply in enumerate(self._panel.supplies, 1):
            self._loop.check_stop()
            phase = f"{name}-fold{fold}" if self._panel.crosswise else name
            followed = supply.glance(config.search_cases)
            trained = train_genotype(phase, self._plan, followed, self._loop, genotype, config=config)
            networks.append(trained.network)
            seconds += trained.position.seconds
        return Tried(config.retrain_rate, self._panel.judge(networks), seconds)

    def tune(self, name: str, genotype: Genotype, config: Config, rates: Iterable[str] = RATES) -> Tried:
        """Train with several learning rates; return the trial that the judges like best.

        Args:
            name: of the phases; that of the rate is added.
            genotype: what goes onto the skips.
            config: epochs and rate of the training, and what else moves.
            rates: keys of `RATES`.
        """
        found = []
        for word in rates:
            changed = config.model_copy(update={"retrain_rate": RATES[word] * config.retrain_rate})
            found.append(self.run(f"{name}-{word}" if word else name, genotype, changed))
        best = max(found, key=lambda one: one.scores.dice_mean)
        return Tried(best.rate, best.scores, sum(one.seconds for one in found))
