"""The settings of a search, checked where they come in."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from surgeon.errors import InputError

from .genotype import CellMerge, Inputs, Scope
from .operations import OPERATIONS
from .step.moving import Train
from .step.optimizers import Kind
from .step.precision import Precision

_NOT_COMPARED = (
    "device",
    "host_spec",
    "allow_worse",
    "cache_memory",
    "cache_disk",
    "memory",
    "estimate",
    "graphs",
)


class Config(BaseModel):
    """Settings of `implant`; `Config.create` turns bad ones into an `InputError`.

    Attributes:
        answer: the place of the segmentation among the network's outputs, negative from the end; None for the
            largest, and of several as large the one with the best Dice on training cases.
        skips: `all` for every implantable skip that is no fusion, or skip ids.
        genotype: one genotype for all skips (`shared`) or one for each (`per-skip`).
        inputs: what a cell is given: the skip (`encoder`), or also the decoder tensor it meets (`both`).
        merge: `residual` (skip + gamma * cell, gamma 0 at birth) or `replace`.
        states: states in a cell.
        partial: K; one channel in K is operated on while searching.
        width: channels inside a cell as a share of the skip's.
        operations: what an edge can be.
        rotate: operate on another block of channels at every search step.
        cell: `batched` (fast) or `reference` (operation by operation); the same search up to rounding.
        epochs: epochs of the search.
        retrain_epochs: epochs of training the derived cells.
        steps: steps in an epoch; None for one pass over the training cases.
        batch_size: cases in a batch.
        crop: spatial size of a training crop; None for whole images.
        augment: whether training crops are flipped and their intensities changed.
        seed: of splits, start, batches and bootstrap.
        split: seed of the splits alone; None takes `seed`.
        fractions: shares of the subjects for training, validation and test.
        weight_step: what moves the weights of the search cells: `adamw`, with which they learn in hundreds of
            steps, or `sgd` as published for PC-DARTS, which takes thousands. None: `sgd` where
            `weight_rate` is given, else `adamw`.
        adamw_rate: AdamW's learning rate for them, at the start of a cosine to 0.
        weight_rate: SGD's learning rate for them, at the start of a cosine; None for 0.05.
        weight_rate_end: and at its end.
        momentum: SGD's momentum.
        weight_decay: weight decay of the search cells' weights.
        architecture_step: what moves alpha and beta: `adam`, or `gaea` (exponentiated gradients on the
            simplex, arXiv 2004.07802).
        architecture_rate: Adam's learning rate for alpha and beta.
        architecture_decay: Adam's weight decay for alpha and beta.
        gaea_rate: the rate of the exponentiated gradients.
        architecture_start: share of the epochs before alpha and beta move.
        norm_batches: training batches from which BatchNorm statistics are estimated before measuring.
        search_cases: validation cases whose Dice is followed during the search and brief trainings; the
            training in full, where a state is chosen by it, uses them all, and so does the short list.
        clip: largest norm of the weights' gradient.
        gamma_factor: learning rate of gamma over that of the other weights.
        retrain_optimizer: `adamw` or `sgd`.
        retrain_rate: its learning rate, at the start of a cosine to 0; the short list tries slower and faster
            ones as well.
        retrain_decay: its weight decay.
        baselines: what is trained beside the cells with the same budget, for comparison.
        train: what moves beside the implants: nothing of the host (`cells`), its scales and shifts (`norms`),
            its decoder, or all of it.
        host_factor: learning rate of the host's parameters over that of the implants.
        finalists: train a short list (plain adapters, a fixed cell, random cells, the searched ones) briefly,
            and go on with the cheapest that validation cannot tell from the best; nothing at all is on it.
        finalist_epochs: epochs of the first round; None takes a twelfth of `retrain_epochs`.
        crosswise_below: with fewer validation subjects, entrants are trained and judged crosswise on training
            and validation subjects together, and what is trained in full is taken as its last step leaves it.
        random_cells: random cells on the short list: one takes far less time than a search, and the best of
            several is hard to beat.
        margin: largest difference in mean validation Dice that counts as a tie.
        least_gain: smallest gain in mean validation Dice that is worth a search, or an implant.
        max_parameters: most parameters that implants may add, as a share of the host's; None for any number.
        max_flops: the same for floating-point operations.
        max_latency: the same for measured time.
        compare: run the comparison with what a sceptic would try, and three learning rates for everything.
        compare_cells: random cells in that comparison.
        selection: `weight` (largest architecture weights), `perturbation` (what the validation loss misses
            most when it is taken away), or `both` as two finalists.
        early: end the search as soon as its choice is stable.
        stable_after: epochs of moving architecture weights before an edge can count as stable.
        stable_window: epochs over which a stable edge's weights have hardly moved.
        stable_divergence: largest Jensen-Shannon divergence (a share of its maximum) over that window.
        stable_margin: and how far the first operation leads the second by then, as the log of their ratio.
        stable_share: share of the edges that have to be stable; the others, which no gradient moves, have to
            stand still at least.
        prune: take the weakest operations of stable edges out, half of what is left at a time.
        beta_decay: weight of mean logsumexp(alpha) in the architecture's loss (arXiv 2203.01665).
        identity_share: largest share of identities in a selection that is no collapse; the architecture goes
            back to the last epoch before one.
        hessian: watch the dominant eigenvalue of the architecture's Hessian too (arXiv 1909.09656).
        cache_memory: GiB of memory for what the frozen host computes before its implants, kept for the cases
            that come again unchanged (whole images, no augmentation).
        cache_disk: GiB on disk, in the RUN folder while it runs, for what memory cannot hold.
        memory: GiB that a batch may keep for the gradients; where it would be more, activations of the host
            are computed again when they are due (slower, equal to the bit). None: a share of the device's.
        device: where the work is done.
        precision: in which networks compute; `auto` is bfloat16 on a GPU that has it, else float32.
        estimate: time a few steps before the start, to say how long it will take at most.
        compile: have torch compile what the frozen host computes: `on`, `off`, or where a trial before the
            start shows that it pays (`auto`; not tried in runs of less than half an hour: it costs too much).
        graphs: replay passes of a training as CUDA graphs: `on`, `off`, or where a pass in the first steps
            shows that it gives the same faster (`auto`; on one GPU alone).
        allow_worse: keep an implant that is worse than its host.
        samples: test images kept in the RUN folder for the report and for the parity check of an export.
        host_spec: how the host was loaded; recorded so that an export can load it again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: int | None = None
    skips: Literal["all"] | tuple[str, ...] = "all"
    genotype: Scope = Scope.SHARED
    inputs: Inputs = Inputs.ENCODER
    merge: CellMerge = CellMerge.RESIDUAL
    states: int = Field(4, ge=1)
    partial: int = Field(4, ge=1)
    width: float = Field(0.25, gt=0)
    operations: tuple[str, ...] = Field(tuple(OPERATIONS), min_length=1)
    rotate: bool = False
    cell: Literal["batched", "reference"] = "batched"
    epochs: int = Field(15, ge=1)
    retrain_epochs: int = Field(50, ge=1)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(8, ge=1)
    crop: tuple[int, ...] | None = None
    augment: bool = True
    seed: int = Field(0, ge=0)
    split: int | None = Field(None, ge=0)
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    weight_step: Kind | None = None
    adamw_rate: float = Field(1e-2, gt=0)
    weight_rate: float | None = Field(None, gt=0)
    weight_rate_end: float = Field(0.001, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(3e-4, ge=0)
    architecture_step: Literal["adam", "gaea"] = "adam"
    architecture_rate: float = Field(6e-4, gt=0)
    architecture_decay: float = Field(1e-3, ge=0)
    gaea_rate: float = Field(0.1, gt=0)
    architecture_start: float = Field(0.3, ge=0, le=1)
    norm_batches: int = Field(4, ge=0)
    search_cases: int = Field(16, ge=1)
    clip: float = Field(5.0, gt=0)
    gamma_factor: float = Field(10.0, gt=0)
    retrain_optimizer: Kind = "adamw"
    retrain_rate: float = Field(1e-2, gt=0)
    retrain_decay: float = Field(1e-4, ge=0)
    baselines: tuple[Literal["adapter"], ...] = ()
    train: Train = Train.CELLS
    host_factor: float = Field(0.1, gt=0)
    finalists: bool = True
    finalist_epochs: int | None = Field(None, ge=1)
    crosswise_below: int = Field(30, ge=0)
    random_cells: int = Field(6, ge=0)
    margin: float = Field(0.003, ge=0)
    least_gain: float = Field(0.002, ge=0)
    max_parameters: float | None = Field(None, gt=0)
    max_flops: float | None = Field(None, gt=0)
    max_latency: float | None = Field(None, gt=0)
    compare: bool = False
    compare_cells: int = Field(8, ge=0)
    selection: Literal["weight", "perturbation", "both"] = "both"
    early: bool = True
    stable_after: int = Field(8, ge=1)
    stable_window: int = Field(3, ge=1)
    stable_divergence: float = Field(1e-3, gt=0)
    stable_margin: float = Field(0.2, ge=0)
    stable_share: float = Field(0.6, gt=0, le=1)
    prune: bool = True
    beta_decay: float = Field(0.0, ge=0)
    identity_share: float = Field(0.5, gt=0, le=1)
    hessian: bool = False
    cache_memory: float = Field(2.0, ge=0)
    cache_disk: float = Field(16.0, ge=0)
    memory: float | None = Field(None, gt=0)
    device: str = "cpu"
    precision: Precision = Precision.AUTO
    estimate: bool = True
    compile: Literal["auto", "off", "on"] = "auto"
    graphs: Literal["auto", "off", "on"] = "auto"
    allow_worse: bool = False
    samples: int = Field(4, ge=0)
    host_spec: dict[str, Any] | None = None

    @classmethod
    def create(cls, **settings: Any) -> Config:
        """Build from keyword arguments.

        Raises:
            InputError: an unknown setting, or a value that cannot be used; every one is named.

        Example:
            >>> Config.create(epochs=3).epochs
            3
        """
        try:
            return cls(**settings)
        except ValidationError as error:
            rows = [f"{_place(item)}: {item['msg']}" for item in error.errors()]
            raise InputError(
                f"settings that cannot be used: {'; '.join(rows)}",
                where="Config",
                fix=f"the settings are {', '.join(cls.model_fields)}",
            ) from error

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(sum(self.fractions) - 1) > 1e-6 or min(self.fractions) <= 0:
            raise ValueError("fractions must be three shares above 0 that add up to 1")
        if len(set(self.operations)) != len(self.operations):
            raise ValueError("operations are named twice")
        if self.weight_step == "adamw" and self.weight_rate is not None:
            raise ValueError("weight_rate is SGD's; with weight_step adamw the rate is adamw_rate")
        if set(self.operations) == {"none"}:
            raise ValueError("operations hold nothing but none")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return self.model_dump(mode="json")

    def differences(self, other: dict[str, Any]) -> tuple[str, ...]:
        """Name the settings in which a recorded configuration differs and that change a result."""
        mine = self.to_dict()
        return tuple(
            name
            for name in sorted(set(mine) | set(other))
            if name not in _NOT_COMPARED and mine.get(name) != other.get(name)
        )


def _place(item: Any) -> str:
    return ".".join(str(part) for part in item["loc"]) or "Config"
