"""`surgeon implant`: search cells for the skips of a network, train them and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from surgeon.errors import WorseError

from .answer import Answer, answering
from .cohorts import DataRequest
from .hosting import HostRequest, pick_device
from .networks import read_report
from .operation import Operation, operate, show_outcome
from .options import (
    AnswerOption,
    ArgumentOption,
    BinariseOption,
    CacheOption,
    ChannelsOption,
    CheckpointOption,
    ClassesOption,
    DataOption,
    DeviceOption,
    ForwardOption,
    HostArgument,
    InputOption,
    JsonOption,
    PreparationOption,
    SliceOption,
    SubjectsOption,
    TracebackOption,
    TrustOption,
)
from .search_options import (
    BatchOption,
    CompareCellsOption,
    CompareOption,
    CompileOption,
    CropOption,
    EarlyOption,
    EpochsOption,
    FinalistsOption,
    FlopsOption,
    GenotypeOption,
    GraphsOption,
    InputsOption,
    LatencyOption,
    MemoryOption,
    MergeOption,
    OperationsOption,
    OutOption,
    ParametersOption,
    PrecisionOption,
    RandomCellsOption,
    ResumeOption,
    RetrainOption,
    RotateOption,
    SeedOption,
    SelectionOption,
    SkipsOption,
    StatesOption,
    StepsOption,
    TrainOption,
    WidthOption,
    WorseOption,
)
from .values import parse_names, parse_shape


def implant(
    host: HostArgument,
    data: DataOption,
    out: OutOption,
    checkpoint: CheckpointOption = None,
    arg: ArgumentOption = None,
    forward: ForwardOption = None,
    shape: InputOption = None,
    trust: TrustOption = False,
    device: DeviceOption = "auto",
    preparation: PreparationOption = None,
    binarise: BinariseOption = False,
    subjects: SubjectsOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    slice_axis: SliceOption = None,
    output: AnswerOption = None,
    cache: CacheOption = None,
    skips: SkipsOption = "all",
    resume: ResumeOption = False,
    seed: SeedOption = None,
    epochs: EpochsOption = None,
    retrain_epochs: RetrainOption = None,
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    crop: CropOption = None,
    precision: PrecisionOption = None,
    memory: MemoryOption = None,
    compiling: CompileOption = None,
    graphs: GraphsOption = None,
    allow_worse: WorseOption = False,
    genotype: GenotypeOption = None,
    merge: MergeOption = None,
    inputs: InputsOption = None,
    states: StatesOption = None,
    operations: OperationsOption = None,
    width: WidthOption = None,
    train: TrainOption = None,
    early: EarlyOption = None,
    selection: SelectionOption = None,
    rotate: RotateOption = None,
    finalists: FinalistsOption = None,
    random_cells: RandomCellsOption = None,
    max_parameters: ParametersOption = None,
    max_flops: FlopsOption = None,
    max_latency: LatencyOption = None,
    compare: CompareOption = False,
    compare_cells: CompareCellsOption = None,
    json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Search cells for the skips of a network, train them in place, and compare with the network as it was.

    The network itself is not changed. Subjects are split in three: to train, to choose, to compare.
    """
    with answering(traceback) as answer:
        settings = _given(
            answer=output,
            seed=seed,
            epochs=epochs,
            retrain_epochs=retrain_epochs,
            steps=steps,
            batch_size=batch_size,
            crop=None if crop is None else parse_shape(crop, option="--crop"),
            precision=precision,
            memory=memory,
            compile=compiling,
            graphs=graphs,
            genotype=genotype,
            merge=merge,
            inputs=inputs,
            states=states,
            operations=parse_names(operations),
            width=width,
            train=train,
            early=early,
            selection=selection,
            rotate=rotate,
            finalists=finalists,
            random_cells=random_cells,
            max_parameters=max_parameters,
            max_flops=max_flops,
            max_latency=max_latency,
            compare=compare,
            compare_cells=compare_cells,
        )
        settings["skips"] = "all" if skips == "all" else parse_names(skips)
        operation = Operation(
            host=HostRequest.from_options(host, checkpoint, arg, forward, shape, trust),
            data=DataRequest(
                data,
                preparation,
                binarise,
                subjects,
                parse_names(classes),
                slice_axis,
                cache,
                parse_names(channels),
            ),
            out=out,
            settings={**settings, "allow_worse": allow_worse, "device": pick_device(device)},
            resume=resume,
        )
        try:
            report = operate(answer, operation).report
        except WorseError:
            # All is written; what was found is the result, also when the gate refuses it.
            _show(answer, read_report(out), out, json)
            raise
        _show(answer, report, out, json)


def _show(answer: Answer, report: dict[str, Any], out: Path, json: bool) -> None:
    if json:
        answer.give_json(report)
    else:
        show_outcome(answer, report, out)


def _given(**settings: Any) -> dict[str, Any]:
    """Leave out what was not asked for: the defaults are the library's."""
    return {name: value for name, value in settings.items() if value is not None}
