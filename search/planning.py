"""Everything that is looked up and checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from surgeon.checkpoints import fingerprint
from surgeon.copying import copied
from surgeon.data import Batches, Cohort, Splits, open_data, split_subjects
from surgeon.errors import GateError, InputError, TraceError
from surgeon.hosts import spatial_axes
from surgeon.modes import in_eval
from surgeon.scores import Task, choose_answer, read_task
from surgeon.skips import Anatomy, locate
from surgeon.splicing import SplicedNetwork, splice_trace
from surgeon.tracing import Trace, run, trace

from .assembly import Table, specify_cells
from .cells import CellSpec
from .config import Config
from .costs import device_memory
from .fleet import Fleet, open_fleet
from .norms import synchronise
from .randomness import seed_for
from .runs import Identity, digest_data
from .step.bill import Clock
from .step.features import GIB, FeatureCache
from .step.recording import Ledger, cuda_ledger
from .step.supply import Supply

_MEMORY_SHARE = 0.6
"""Of the memory of a device, what activations may take."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to be done to which host with which data.

    Attributes:
        host: a copy of the host in eval mode, on the device.
        trace: the host as a graph.
        fingerprint: of the host.
        anatomy: its skips.
        specs: the cell on each chosen skip, by skip id.
        inputs: example inputs on the CPU: one tensor `(N, C, *spatial)`.
        config: the settings.
        cohort: all cases.
        splits: subject ids for training, validation and test.
        task: loss and prediction.
        fleet: the processes that share the work, and the device of this one.
        table: factories of the operations by name.
        ledger: of the passes that are recorded as CUDA graphs; None records none.
        remarks: what was decided by what is there, a sentence each.
    """

    host: nn.Module
    trace: Trace
    fingerprint: str
    anatomy: Anatomy
    specs: Mapping[str, CellSpec]
    inputs: tuple[Tensor, ...]
    config: Config
    cohort: Cohort
    splits: Splits
    task: Task
    fleet: Fleet
    table: Table
    ledger: Ledger | None = None
    remarks: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where this process works."""
        return self.fleet.device

    @property
    def identity(self) -> Identity:
        """What a resumed run must have in common with this one."""
        return Identity(self.config, self.fingerprint, digest_data(self.cohort))

    @property
    def test(self) -> Cohort:
        """The test cases; scored once, at the very end."""
        return self.cohort.select(self.splits.test)

    def supply(self, folder: Path | None = None) -> Supply:
        """Return batches, validation cases and loss; the folder takes features that memory cannot hold."""
        return self.supply_of(self.splits, folder)

    def supply_of(self, splits: Splits, folder: Path | None = None) -> Supply:
        """Return the same of other splits."""
        training, validation = self.cohort.select(splits.train), self.cohort.select(splits.validation)
        fleet = self.fleet
        if folder is not None and fleet.size > 1:
            folder = folder / str(fleet.ranks.rank)
        return Supply(
            training=draw_batches(training, self.config, "training", fleet),
            validation=draw_batches(validation, self.config, "validation", fleet),
            cohort=validation,
            task=self.task,
            device=self.device,
            norm_batches=self.config.norm_batches,
            cache=FeatureCache(self.config.cache_memory * GIB, self.config.cache_disk * GIB, folder),
            choosing=len(splits.validation) >= self.config.crosswise_below,
            fleet=fleet,
            precision=self.config.precision,
            memory=self._memory(),
            clock=Clock(self.device),
            ledger=self.ledger,
        )

    def _memory(self) -> float:
        """Return the bytes that a batch may keep for the gradients: those set, or a share of the device's."""
        if self.config.memory is not None:
            return self.config.memory * GIB
        sharing = 1 if self.device.type == "cuda" else self.fleet.ranks.local_size
        return _MEMORY_SHARE * device_memory(self.device) / sharing

    def splice(self, implants: Mapping[str, nn.Module]) -> SplicedNetwork:
        """Splice modules into the host, and move the network to the device."""
        network = splice_trace(self.trace, implants).to(self.device)
        synchronise(network.get_submodule("implants"), self.fleet)
        return network


def plan_operation(
    host: nn.Module,
    data: Cohort | str | Path,
    config: Config,
    table: Table,
    inputs: Tensor | tuple[Tensor, ...] | None = None,
) -> Plan:
    """Look at host and data, and check that they fit each other and the settings.

    Args:
        host: the network; it is not changed.
        data: labelled cases, or the folder they are in; a 2-D network then takes volumes as slices.
        config: the settings.
        table: factories of the operations by name.
        inputs: an example input `(N, C, *spatial)`; None takes a training image.

    Raises:
        InputError: the settings name skips or operations that do not exist, or the device is unknown.
        DataError: the data cannot be used, or do not fit the host.
        GateError: the host cannot be traced, or a skip cannot be implanted.
    """
    given = None if inputs is None else _example(inputs)
    cohort = data if isinstance(data, Cohort) else open_data(data, spatial_dims=_axes_of(host, given))
    fleet = open_fleet(find_device(config.device))
    reason = config.precision.reason(fleet.device)
    config = config.model_copy(update={"precision": config.precision.settled(fleet.device)})
    splits = split_subjects(cohort, config.seed if config.split is None else config.split, config.fractions)
    training = cohort.select(splits.train)
    image = draw_batches(training, config, "training").batch(0, 0).image[:1]
    task, chosen = _read_output(host, image, training, config, fleet)
    example = given or (image,)
    traced = trace(host, example)
    _check_freedom(traced, image, config)
    _check_still(traced)
    anatomy = locate(traced)
    plan = Plan(
        host=in_eval(copied(host)).to(fleet.device),
        trace=traced,
        fingerprint=fingerprint(host),
        anatomy=anatomy,
        specs=specify_cells(anatomy, config, table),
        inputs=example,
        config=config,
        cohort=cohort,
        splits=splits,
        task=task,
        fleet=fleet,
        table=table,
        ledger=open_ledger(config.graphs, fleet),
        remarks=tuple(remark for remark in (reason, chosen) if remark),
    )
    _check_same(plan)
    return plan


def _read_output(
    host: nn.Module, image: Tensor, training: Cohort, config: Config, fleet: Fleet
) -> tuple[Task, str]:
    """Tell what the output of a host means, and say how its answer was chosen if it was."""
    network = in_eval(copied(host))
    task = read_task(network, image, training, config.answer)
    if config.answer is not None:
        return task, ""
    return fleet.first(lambda: choose_answer(network, image, training, task, fleet.device))


def _check_same(plan: Plan) -> None:
    """Refuse processes that would not work on the same."""
    check = plan.fleet.check_same
    check("the host", plan.fingerprint, "give its weights (--checkpoint); a factory may draw them at random")
    check("the data", digest_data(plan.cohort), "give every machine the same folder")
    check("the anatomy", [skip.id for skip in plan.anatomy.skips], "use the same versions on every machine")


def draw_batches(cohort: Cohort, config: Config, purpose: str, fleet: Fleet | None = None) -> Batches:
    """Return the batches of some cases; what is drawn depends on the seed and the purpose alone.

    Args:
        cohort: the cases.
        config: crop, size of a batch, seed.
        purpose: `training` or `validation`.
        fleet: processes that see a share of each batch.

    Raises:
        DataError: the cases cannot be trained on, or a batch is too small to be shared.
    """
    batches = Batches(
        cohort,
        crop=config.crop,
        batch_size=config.batch_size,
        augment=config.augment and purpose == "training",
        seed=seed_for(config.seed, purpose),
        steps=config.steps if purpose == "training" else None,
    )
    return batches if fleet is None else batches.share(fleet.ranks.rank, fleet.size)


def find_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda:1`, ... into a device.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"there is no device {name!r}", where="device", fix="use auto or cpu") from error
    return device


def open_ledger(graphs: str, fleet: Fleet) -> Ledger | None:
    """Return what records passes as CUDA graphs, where that is possible and wanted.

    Args:
        graphs: `on`, `off`, or `auto` for on where it is possible.
        fleet: its device records; not where several processes share a batch.

    Raises:
        InputError: it is asked for, and not possible.
    """
    possible = fleet.device.type == "cuda" and fleet.size == 1
    if graphs == "on" and not possible:
        why = "several processes share the batches" if fleet.size > 1 else f"the device is {fleet.device}"
        raise InputError(f"no CUDA graphs here: {why}", where="graphs", fix="leave it at auto")
    return cuda_ledger(always=graphs == "on") if possible and graphs != "off" else None


def _example(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    example = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if len(example) != 1:
        raise InputError(
            f"the host takes {len(example)} inputs",
            where="inputs",
            fix="wrap it in a module that takes one image and makes the inputs of it, or of its channels",
        )
    return example


def _axes_of(host: nn.Module, given: tuple[Tensor, ...] | None) -> int | None:
    """Return how many spatial axes a host's images have: a 2-D network takes volumes as slices."""
    return spatial_axes(host) if given is None else given[0].ndim - 2


def _check_still(traced: Trace) -> None:
    """Refuse a host that writes to its own state in evaluation: after a search it would be another one."""
    buffers = dict(traced.graph_module.named_buffers())
    before = {name: value.clone() for name, value in buffers.items()}
    run(traced.graph_module, traced.example)
    changed = [name for name, value in before.items() if not torch.equal(value, buffers[name])]
    if changed:
        raise GateError(
            f"the host writes to its own state in evaluation: {', '.join(changed[:3])}",
            where=traced.host_name,
            fix="make it write in training alone, or it cannot be implanted",
        )


def _check_freedom(traced: Trace, image: Tensor, config: Config) -> None:
    """Refuse a graph that holds for one batch size or one image size where training needs others."""
    example = traced.example.args[0]
    fixed, fix = "", ""
    if not traced.summary.free_batch:
        fixed = "batch size"
        fix = "write its forward for any batch: a loop over the images of one fixes how many there are"
    if not traced.summary.free_sizes and (config.crop or tuple(image.shape[2:])) != tuple(example.shape[2:]):
        fixed = "image size"
        fix = "give an example (inputs) of the training images' size, or export the host with free sizes"
    if fixed:
        raise TraceError(
            f"the graph of the host holds for one {fixed} only: that of the example, {tuple(example.shape)}",
            where=traced.host_name,
            fix=fix,
        )
