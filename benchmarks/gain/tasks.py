"""The tasks: which host meets which images, and who of them trains, chooses and compares."""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from benchmarks.gain.hosts import Recipe, trained_host
from benchmarks.gain.scenes import train_host, write_scenes
from benchmarks.gain.volumes import ARCHIVE, SHIFTS, open_volumes
from surgeon.data import Case, Cohort, Preparation, open_data

NUCLEI = "nuclei/dsb2018_fluo_gray.zip"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task finds and writes things.

    Attributes:
        folder: to write in.
        data: holds the archives.
    """

    folder: Path
    data: Path


@dataclass(frozen=True, slots=True)
class Task:
    """One setting.

    Attributes:
        name: in tables and parts.
        counts: subjects to train, to choose and to compare on.
        cohort: opens all images.
        host: gives the network, from the place and the training subjects of a split.
        settings: of `Config`, beside those of the size.
        needs: file under the data folder that it needs; empty for none.
        domain: names the domain of a case; `in` is that of training and validation, others are compared on
            as well.
    """

    name: str
    counts: tuple[int, int, int]
    cohort: Callable[[Place], Cohort]
    host: Callable[[Place, tuple[str, ...]], nn.Module]
    settings: Mapping[str, Any]
    needs: str = ""
    domain: Callable[[Case], str] = lambda _: "in"


def deal(cohort: Cohort, task: Task, split: int) -> Cohort:
    """Return a cohort whose splits are declared: drawn from the domain `in`, as many as the task counts.

    As many subjects of other domains as are compared on are added to the test split.
    """
    domains = {case.subject: task.domain(case) for case in cohort.cases}
    order = [cohort.subjects[i] for i in np.random.default_rng(split).permutation(len(cohort.subjects))]
    own, other = (
        [subject for subject in order if (domains[subject] == "in") is known] for known in (True, False)
    )
    first, second, third = np.cumsum(task.counts)
    splits = {
        "train": tuple(sorted(own[:first])),
        "validation": tuple(sorted(own[first:second])),
        "test": tuple(sorted((*own[second:third], *other[: task.counts[2]]))),
    }
    chosen = {subject for subjects in splits.values() for subject in subjects}
    cases = tuple(case for case in cohort.cases if case.subject in chosen)
    return replace(cohort, cases=cases, splits=splits)


@functools.cache
def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def open_nuclei(place: Place) -> Cohort:
    """Open the images whose sides are at most 360."""
    root = place.folder / "nuclei"
    if not root.exists():
        with zipfile.ZipFile(place.data / NUCLEI) as archive:
            archive.extractall(root)
    how = Preparation(scale="minmax", multiple=16, channels=1, binarise=True)  # type: ignore[arg-type]
    cohort = open_data(root, preparation=how)
    return replace(cohort, cases=tuple(c for c in cohort.cases if max(_size(c.images[0])) <= 360))


def nuclei_domain(case: Case) -> str:
    """Tell images of 256 x 256 from those of other sizes: they come from other laboratories."""
    return "in" if _size(case.images[0]) == (256, 256) else "out"


def open_hpa(place: Place, _: tuple[str, ...]) -> nn.Module:
    """Open the exported program, which was trained on images of another source."""
    from surgeon.hosts import open_host

    return open_host(place.data / "nuclei" / "hpa.pt2").module


def open_scenes(place: Place, *, seed: int, specks: bool) -> Cohort:
    """Draw scenes."""
    root = place.folder / f"scenes-{seed}"
    if not root.exists():
        write_scenes(root, 400, seed, specks=specks)
    return open_data(root, preparation=Preparation(scale="unit", channels=1))  # type: ignore[arg-type]


def scene_host(place: Place, _: tuple[str, ...]) -> nn.Module:
    """Train the host of the generated scenes, on scenes without specks that no task has."""
    del place
    return train_host(120)


def build_dynunet() -> nn.Module:
    """Build a MONAI DynUNet of three levels for volumes."""
    from monai.networks.nets import DynUNet

    return DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[8, 16, 32],
        norm_name="INSTANCE",
    )


def build_unet() -> nn.Module:
    """Build a MONAI UNet for slices: a pass of an smp Unet with mobilenet_v2 takes 13 times as long."""
    from monai.networks.nets import UNet

    return UNet(
        spatial_dims=2, in_channels=1, out_channels=3, channels=(16, 32, 64), strides=(2, 2), norm="batch"
    )


VOLUMES = Recipe(steps=600, crop=(32, 32, 32), batch_size=2)
SLICES = Recipe(steps=800, crop=(48, 64), batch_size=16)
EARLY = replace(SLICES, stop=0.15)


def hippocampus_host(
    place: Place, train: tuple[str, ...], *, dims: int, recipe: Recipe, build: Callable[[], nn.Module]
) -> nn.Module:
    """Train a host on the training subjects as they are, whatever it will meet."""
    cohort = open_volumes(place.folder, place.data, dims=dims).select(train)
    return trained_host(build, cohort, recipe, seed=0)


_host_of_volumes = functools.partial(hippocampus_host, dims=3, recipe=VOLUMES, build=build_dynunet)
_host_of_slices = functools.partial(hippocampus_host, dims=2, recipe=SLICES, build=build_unet)
_early_host = functools.partial(hippocampus_host, dims=2, recipe=EARLY, build=build_unet)
_AS_VOLUMES: Mapping[str, Any] = {"crop": (32, 32, 32), "batch_size": 2}
_AS_SLICES: Mapping[str, Any] = {"crop": (48, 64), "batch_size": 8}


def _opened(place: Place, *, dims: int, shift: str) -> Cohort:
    return open_volumes(place.folder, place.data, dims=dims, shift=shift)


def _hippocampus(name: str, dims: int, host: Callable[..., nn.Module], shift: str = "") -> Task:
    cohort = functools.partial(_opened, dims=dims, shift=shift)
    settings = _AS_VOLUMES if dims == 3 else _AS_SLICES
    return Task(name, (100, 30, 40), cohort, host, settings, needs=ARCHIVE)


def _nuclei(train: int, validation: int, *, apart: bool = False) -> Task:
    domain = {"domain": nuclei_domain} if apart else {}
    return Task(
        f"nuclei-{train}",
        (train, validation, 40 if apart else 80),
        open_nuclei,
        open_hpa,
        {"crop": (96, 96), "batch_size": 4 if apart else 8},
        needs=NUCLEI,
        **domain,
    )


def _scenes(name: str, seed: int, *, specks: bool) -> Task:
    cohort = functools.partial(open_scenes, seed=seed, specks=specks)
    return Task(name, (160, 60, 120), cohort, scene_host, {"crop": (64, 64)})


SHIFTED = tuple(
    _hippocampus(f"{name}-{shift}", dims, host, shift)
    for name, dims, host in (("volumes", 3, _host_of_volumes), ("slices", 2, _host_of_slices))
    for shift in SHIFTS
)

TASKS = (
    _nuclei(200, 30),
    _nuclei(16, 8, apart=True),
    _nuclei(4, 4, apart=True),
    _hippocampus("volumes", 3, _host_of_volumes),
    _hippocampus("slices", 2, _host_of_slices),
    _hippocampus("slices-early", 2, _early_host),
    *SHIFTED,
    _scenes("lines", 1, specks=True),
    _scenes("right", 2, specks=False),
)
