"""Datasets inside dataset wrappers."""

from collections.abc import Iterator
from typing import Any


def inner_datasets(dataset: Any) -> list:
    """List the datasets a wrapper holds; empty for a dataset that reads files."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [part for part in inner if part is not None]


def leaf_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the datasets inside wrappers that repeat, mix or concatenate them."""
    inner = inner_datasets(dataset)
    for part in inner:
        yield from leaf_datasets(part)
    if not inner:
        yield dataset
