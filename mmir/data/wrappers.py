"""Data sets inside wrappers."""

from collections.abc import Iterator
from typing import Any


def inner_datasets(dataset: Any) -> list:
    """List the data sets a wrapper holds, none for one that reads files."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [part for part in inner if part is not None]


def leaf_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside wrappers that repeat, mix or concatenate them."""
    inner = inner_datasets(dataset)
    for part in inner:
        yield from leaf_datasets(part)
    if not inner:
        yield dataset
