"""Data sets inside wrappers."""

from collections.abc import Iterator, Sequence


def leaf_datasets(dataset: object) -> Iterator[object]:
    """Yield the data sets inside wrappers that repeat, mix or concatenate them."""
    inner = getattr(dataset, 'datasets', None) or getattr(dataset, 'dataset', None)
    if inner is None:
        yield dataset
        return
    for child in inner if isinstance(inner, Sequence) else [inner]:
        yield from leaf_datasets(child)
