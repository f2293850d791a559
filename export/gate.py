"""The parity gate: an export is compared with the original network on many inputs, or refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from surgeon.errors import ExportError
from surgeon.parity import Difference, compare, tensors_in
from surgeon.tracing import Example, image_shapes, is_image, map_tensors

from .flattening import first_line, leaves_of
from .targets import Precision

Network = Callable[[Example], Any]

_SHARE_OF_ONE = 0.01

# The export may be this many times as far from the exact values as the host is.
_NO_WORSE = 4.0
# Where the host is further from them than this many thresholds, nothing can be said of the export: norm
# after norm blows up what the one before left, and a unit more or less at the start is many at the end.
_MOST_ROUNDING = 10.0
# By how many units in their last place inputs are moved to see what rounding makes of them. Where a network
# chooses (which place a pool keeps) only some moves choose otherwise, and its sums round by more than a unit.
_MOVES = (1,)
_MOVES_OF_CHOICES = (1, 1, 4, 4, 16, 16)
# Where rounding decides what it chooses on an image, the same image mirrored or shifted may do without.
_TURNS = range(1, 8)
_TURNED = ", turned"
_FIX_SIZES = "export it for one fixed size with sizes='fixed', or replace what depends on the size"
_REPORT = "report the network; nothing was written"
_TRAIN = (
    "export it with the weights that will be served: untrained ones, whose norms have no statistics yet, "
    "blow up rounding until no float32 file can be told right from wrong; nothing was written"
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """How much an export may differ.

    Attributes:
        relative: largest difference over the largest value of the reference.
        agreement: share of positions with the same largest channel; one position may always differ.
        dice: of the classes, mean, on real samples; on noise classes may be a few positions large.
    """

    relative: float
    agreement: float
    dice: float

    def to_dict(self) -> dict[str, float]:
        """Return plain JSON."""
        return {"relative": self.relative, "argmax_agreement": self.agreement, "dice": self.dice}


THRESHOLDS = {
    Precision.FP32: Threshold(1e-4, 0.999, 0.999),
    Precision.FP16: Threshold(2e-2, 0.99, 0.99),
    # Rounding to 8 bits moves values much; the classes have to stay. A small object can lose much of its own:
    # `prove_quantised` holds the mean over all samples to more.
    Precision.INT8: Threshold(0.5, 0.95, 0.75),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One set of inputs to compare on.

    Attributes:
        what: how it differs from the example.
        example: the inputs.
        required: whether the export has to run wherever the host does.
        real: whether it is a real sample, not noise.
        vital: whether a comparison may not be left out where the host itself is too uncertain for one.
    """

    what: str
    example: Example
    required: bool = True
    real: bool = False
    vital: bool = True

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of its images."""
        return tuple(image_shapes(self.example))


@dataclass(frozen=True, slots=True)
class Compared:
    """An export compared with the host on one case.

    Attributes:
        what: how it differs from the example.
        shapes: of its images.
        difference: between the two.
        rounding: how far the host itself is from its value in float64, relative, where the difference is
            beyond the threshold and no larger than that rounding explains; None elsewhere.
    """

    what: str
    shapes: tuple[tuple[int, ...], ...]
    difference: Difference
    rounding: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; `shape` is that of the image, or a list of them where there are several."""
        told = {"what": self.what, "shape": _plain_shape(self.shapes), **self.difference.to_dict()}
        return told if self.rounding is None else {**told, "rounding": self.rounding}


@dataclass(frozen=True, slots=True)
class NotCompared:
    """A case without a comparison, and why: the host, or the export, refuses these inputs with an error."""

    what: str
    shapes: tuple[tuple[int, ...], ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"what": self.what, "shape": _plain_shape(self.shapes), "reason": self.reason}


@dataclass(slots=True)
class Gate:
    """Compares case after case and keeps what it found.

    Args:
        host: the original network, never the traced or fused graph.
        export: what was written, as it will run.
        threshold: how much it may differ.
        locate: says of inputs on which they differ where the values part; empty where it cannot.
        exact: the original network in float64; None where there is none.
        example: values that the host takes: other cases are brought into their range where it refuses them.
        choosing: whether the host chooses by values (`chooses`), so that rounding may decide.
    """

    host: Network
    export: Network
    threshold: Threshold
    locate: Callable[[Example], str] | None = None
    exact: Network | None = None
    example: Example | None = None
    choosing: bool = False
    compared: list[Compared] = field(default_factory=list)
    not_compared: list[NotCompared] = field(default_factory=list)

    def check_all(self, cases: Iterable[Case]) -> None:
        """Check every case.

        Raises:
            ExportError: as `check`.
        """
        for case in cases:
            self.check(case)

    def check(self, case: Case) -> bool:
        """Compare host and export on one case.

        Returns:
            whether they were compared and agree; False when one of them refuses the inputs.

        Raises:
            ExportError: they differ, or the export fails where it has to run.
        """
        try:
            case, expected = self._ask(case)
        except Exception as error:  # noqa: BLE001 - a host may refuse a size in any way
            return self._skip(case, f"the host refuses it: {first_line(error)}")
        if any(bool(tensor.isnan().any()) for tensor in expected):
            return self._skip(case, "the host gives values that are no numbers (NaN)")
        try:
            found = tensors_in(self.export(case.example))
        except Exception as error:
            if not case.required:
                return self._skip(case, f"the export refuses it: {first_line(error)}")
            raise self._refusal(case, f"the export fails: {first_line(error)}") from error
        return self._judge(case, [tensor.detach().cpu() for tensor in expected], found)

    def _ask(self, case: Case) -> tuple[Case, list[Tensor]]:
        """Run the host, and where it checks values and refuses these, once more on some in its range."""
        try:
            with torch.no_grad():
                return case, tensors_in(self.host(case.example))
        except Exception as error:
            if self.example is None or case.real:
                raise
            tame = replace(case, example=within(case.example, self.example))
            try:
                with torch.no_grad():
                    return tame, tensors_in(self.host(tame.example))
            except Exception:  # noqa: BLE001 - it is not for its values
                raise error from None

    def _judge(self, case: Case, expected: list[Tensor], found: list[Tensor]) -> bool:
        try:
            difference = compare(expected, found)
        except ValueError as error:
            raise self._refusal(case, str(error)) from error
        if self._is_near(expected, found, difference) and self._keeps_classes(case, expected, difference):
            self.compared.append(Compared(case.what, case.shapes, difference))
            return True
        own, of_export = self._roundings(case, expected, found)
        is_chaos = own > _MOST_ROUNDING * self.threshold.relative and math.isfinite(of_export)
        is_explained = of_export <= _NO_WORSE * own
        if is_explained and not is_chaos and self._keeps_classes(case, expected, difference):
            self.compared.append(Compared(case.what, case.shapes, difference, own))
            return True
        if not (is_chaos or (is_explained and not case.vital)):
            raise self._refusal(case, _describe(difference))
        if not case.vital:
            return self._skip(case, f"the host's own rounding is {own:.1e} of its range there")
        if self.choosing and self._check_turned(case):
            return True
        uncertain = f"; the network's own rounding moves its outputs by {own:.1e} of their range there"
        raise self._refusal(case, _describe(difference) + uncertain, _TRAIN)

    def _check_turned(self, case: Case) -> bool:
        """Tell whether the image, mirrored or shifted, can be compared, and host and export agree on it."""
        known = len(self.not_compared)
        for turn in _TURNS:
            example = map_tensors(case.example, partial(_turned, turn=turn))
            if self.check(replace(case, what=case.what + _TURNED, example=example, vital=False)):
                del self.not_compared[known:]
                return True
        return False

    def _roundings(self, case: Case, expected: list[Tensor], found: list[Tensor]) -> tuple[float, float]:
        """Return how far host and export are from the host in float64, relative; infinity where unknown.

        A norm over a handful of values, or over an image of one value, blows up rounding thousandfold, in the
        host as in the export: there, neither is right, and the export need not be closer than the host is.
        Where the host happens to round nothing, as in the mean of equal values, it counts how far its exact
        output moves when its inputs move by a unit in their last place: so much is left to how one rounds.
        Where that explains nothing, a few more moves are tried: two values that are all but equal are told
        apart by some of them alone.
        """
        if self.exact is None:
            return 0.0, float("inf")
        try:
            with torch.no_grad():
                truth = self._exactly(case.example)
                own, of_export = compare(truth, expected).relative, compare(truth, found).relative
                for seed, units in enumerate(_MOVES_OF_CHOICES if self.choosing else _MOVES):
                    moved = self._exactly(map_tensors(case.example, partial(_nudged, units=units, seed=seed)))
                    own = max(own, compare(truth, moved).relative)
                    if of_export <= _NO_WORSE * own:
                        break
            return own, of_export
        except Exception:  # noqa: BLE001 - some networks name their type in the code
            return 0.0, float("inf")

    def _exactly(self, example: Example) -> list[Tensor]:
        assert self.exact is not None
        return [tensor.detach().cpu() for tensor in tensors_in(self.exact(example))]

    def _is_near(self, expected: list[Tensor], found: list[Tensor], difference: Difference) -> bool:
        are_labels = not any(tensor.is_floating_point() for tensor in expected)
        if are_labels or difference.relative <= self.threshold.relative:
            return True
        if not are_probabilities(expected):
            return False
        # A sigmoid is rounded to a share of one, also where all that it gives is next to nothing, as one of
        # several sigmoids may; the others are held to their range.
        share = _SHARE_OF_ONE * self.threshold.relative
        pairs = zip(expected, found, strict=True)
        rest = [(a, b) for a, b in pairs if compare(a, b).largest > share]
        return compare([a for a, _ in rest], [b for _, b in rest]).relative <= self.threshold.relative

    def _keeps_classes(self, case: Case, expected: list[Tensor], difference: Difference) -> bool:
        # Of two channels that are equal up to rounding either may come out on top: one position may differ.
        positions = min((_positions(t) for t in expected if t.ndim > 2 and t.numel()), default=1)
        differing = round((1 - difference.argmax_agreement) * positions)
        if differing <= 1:
            return True
        if differing > (1 - self.threshold.agreement) * positions:
            return False
        return not case.real or difference.dice >= self.threshold.dice

    def _refusal(self, case: Case, finding: str, fix: str = "") -> ExportError:
        place = self.locate(case.example) if self.locate is not None else ""
        shapes = " and ".join("x".join(map(str, shape)) for shape in case.shapes)
        of_sizes = case.what.removesuffix(_TURNED) in SIZE_CASES
        return ExportError(
            f"the export does not compute what the network computes: {finding}",
            where=f"{case.what}, input {shapes}" + (f"; values part first at {place}" if place else ""),
            fix=fix or (_FIX_SIZES if of_sizes else _REPORT),
        )

    def _skip(self, case: Case, reason: str) -> bool:
        self.not_compared.append(NotCompared(case.what, case.shapes, reason))
        return False


def within(example: Example, like: Example) -> Example:
    """Bring the real values of inputs into the range of those of others, tensor by tensor."""
    others = iter(leaves_of(like))

    def bring(tensor: Tensor) -> Tensor:
        other = next(others)
        if not (tensor.is_floating_point() and tensor.numel() and other.numel()):
            return tensor
        return tensor.clamp(*(float(bound) for bound in other.aminmax()))

    return map_tensors(example, bring)


def are_probabilities(tensors: Iterable[Tensor]) -> bool:
    """Tell whether all real values lie between 0 and 1."""
    real = [tensor for tensor in tensors if tensor.is_floating_point()]
    return all(bool(((tensor >= 0) & (tensor <= 1)).all()) for tensor in real)


def _turned(tensor: Tensor, turn: int) -> Tensor:
    """Mirror an image along its last or its first spatial axis, or shift it, by the bits of `turn`."""
    if not is_image(tensor):
        return tensor
    axes = {axis for bit, axis in ((1, tensor.ndim - 1), (2, 2)) if turn & bit}
    mirrored = tensor.flip(sorted(axes))
    return mirrored.roll(tensor.shape[-1] // 3, -1) if turn & 4 else mirrored


def _nudged(tensor: Tensor, units: int, seed: int) -> Tensor:
    """Return a real tensor in float64, moved by some units in the last place of its range in float32."""
    if not tensor.is_floating_point() or not tensor.numel():
        return tensor
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
    unit = torch.finfo(torch.float32).eps * (float(tensor.abs().max()) or 1.0)
    return tensor.double() + units * unit * noise


def _positions(tensor: Tensor) -> int:
    return tensor.numel() // tensor.shape[1] if tensor.is_floating_point() else tensor.numel()


def _describe(difference: Difference) -> str:
    return (
        f"largest difference {difference.largest:.2e} ({difference.relative:.1e} of the range), "
        f"argmax agreement {100 * difference.argmax_agreement:.2f} %, Dice {difference.dice:.4f}"
    )


SIZE_CASES = (
    *("larger", "larger, batch 3", "not square", "uneven", "one axis at its largest"),
    *("below", "beyond", "smallest", "largest"),
)


def _plain_shape(shapes: tuple[tuple[int, ...], ...]) -> list[Any]:
    return list(shapes[0]) if len(shapes) == 1 else [list(shape) for shape in shapes]
