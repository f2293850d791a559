"""Data given as code: `module:function` or `file.py:function` that returns datasets."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surgeon.errors import DataError
from surgeon.repository import import_file, local_file, running

from .case import Case
from .choices import Scale
from .found import Found
from .items import Items, read_item
from .preparation import Preparation
from .reading import stem_of

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


def find_items(spec: str) -> Found:
    """Call a function and list the items of the datasets it returns. Both run its author's code.

    Args:
        spec: the function takes no argument and returns a dataset (anything with a length and items: a list,
            a dataset of torch or MONAI), or a mapping with the keys train, validation and test to one each.
            An item is `{"image": ..., "label": ...}` with arrays, tensors or file names, and maybe
            `subject`, `name` and `spacing`; or a tuple of image, label and maybe subject.

    Returns:
        the cases; images are taken as they are, unless a preparation is given.

    Raises:
        DataError: the function cannot be imported or fails, or what it returns is no dataset.
    """
    made = _call(spec)
    if not isinstance(made, Mapping):
        entries = _entries(made, spec)
        items = Items(entries, spec)
        return Found("function", _cases(items, range(len(entries))), None, _AS_IS, items=items)
    joined: list[tuple[Any, int]] = []
    names: dict[str, range] = {}
    for split, keys in SPLITS.items():
        dataset = next((made[key] for key in keys if key in made), None)
        if dataset is None:
            raise DataError(
                f"the function names no {split}",
                where=spec,
                fix="return one dataset, or a mapping with train, validation and test",
            )
        entries = _entries(dataset, f"{spec}, {split}")
        names[split] = range(len(joined), len(joined) + len(entries))
        joined += [(entries, index) for index in range(len(entries))]
    items = Items(_Joined(joined), spec)
    cases = _cases(items, range(len(joined)))
    by_item = {case.item: case.id for case in cases}
    splits = {split: tuple(by_item[index] for index in places) for split, places in names.items()}
    return Found("function", cases, None, _AS_IS, items=items, splits=splits)


_AS_IS = Preparation(scale=Scale.NONE)


class _Joined:
    """Items of several datasets, one after the other."""

    def __init__(self, places: list[tuple[Any, int]]) -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        entries, place = self._places[index]
        return entries[place]


def _cases(items: Items, places: range) -> tuple[Case, ...]:
    """Name the cases of a dataset; an item without a subject is its own."""
    width = len(str(len(places)))
    cases: dict[str, Case] = {}
    for index in places:
        where = items.where(index)
        item = read_item(items.entry(index), where)
        files = _files(item.image)
        name = item.name or (stem_of(files[0]) if files else f"item{index:0{width}d}")
        if name in cases:
            raise DataError(f"two items are called {name!r}", where=where, fix="give each its own name")
        subject = item.subject or name
        if files:
            cases[name] = Case(name, subject, files, (Path(item.label),), volume=name)
        else:
            cases[name] = Case(name, subject, (), (), volume=name, item=index)
    if not cases:
        raise DataError("the dataset is empty", where=items.place)
    return tuple(cases[name] for name in sorted(cases))


def _files(image: Any) -> tuple[Path, ...]:
    names = image if isinstance(image, list) else [image]
    return tuple(Path(name) for name in names) if all(isinstance(n, str | Path) for n in names) else ()


def _entries(dataset: Any, where: str) -> Any:
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and not isinstance(dataset, str):
        return dataset
    raise DataError(
        f"the function returned a {type(dataset).__name__}, no dataset",
        where=where,
        fix="return a list, or a dataset with a length and items",
    )


def _call(spec: str) -> Any:
    place, _, name = spec.rpartition(":")
    try:
        file = Path(place) if place.endswith(".py") else local_file(place)
        module = importlib.import_module(place) if file is None else import_file(file)
        with running(module):
            return getattr(module, name)()
    except (Exception, SystemExit) as error:
        first = (str(error).strip().splitlines() or [""])[0][:160]
        raise DataError(
            f"the function for the data failed: {type(error).__name__}: {first}",
            where=spec,
            fix="name a function without arguments that returns datasets, as in package.module:function",
        ) from error
