"""Why a network does not take an image."""

from __future__ import annotations

import re

from torch import Tensor

from surgeon.data import Cohort
from surgeon.errors import DataError


def refusal(error: Exception, image: Tensor, cohort: Cohort, case: str = "") -> DataError:
    """Explain what a network raised on prepared images.

    Args:
        error: what it raised.
        image: `(N, C, *spatial)`.
        cohort: holds them.
        case: id of the first one; empty where none is meant in particular.
    """
    named = f"case {case}, " if case else ""
    where = f"{cohort.path}: {named}an input of shape {(1, *image.shape[1:])}"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    wanted = re.search(r"to have (\d+) channels, but got (\d+) channels", first)
    if wanted is None or int(wanted[2]) != image.shape[1]:
        return DataError(
            f"the network does not take the images: {first}",
            where=where,
            fix="check the channels and the preparation of the data (size, multiple; a [window] where the "
            f"network takes one size alone), or trace the network on an image of that size, {_shaped(image)}",
        )
    convertible = {int(wanted[1]), int(wanted[2])} == {1, 3}
    return DataError(
        f"the network takes images of {wanted[1]} channels, the data have {wanted[2]}",
        where=where,
        fix=f"write channels = {wanted[1]} into a file and give it with --preparation"
        if convertible
        else "give the channels that the network was trained on",
    )


def _shaped(image: Tensor) -> str:
    return f"--input {','.join(map(str, (1, *image.shape[1:])))}"
