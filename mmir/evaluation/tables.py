"""Tables of metrics."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmir.utils.files import write_text


def numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Keep the metrics that are numeric.

    Args:
        metrics (Mapping[str, Any]): Name -> value of any type.

    Returns:
        dict[str, float | None]: As Python floats, None for those that are not finite.
    """
    kept = {}
    for name, value in metrics.items():
        if isinstance(value, np.ndarray | np.generic | torch.Tensor):
            value = value.item() if math.prod(value.shape) == 1 else None
        if isinstance(value, int | float):
            kept[name] = float(value) if math.isfinite(value) else None
    return kept


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of numbers; None if there are none or one is None."""
    if not values or None in values:
        return None
    return sum(values) / len(values)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> str:
    """Format a Markdown table.

    Args:
        head (Sequence[str]): Column titles.
        rows (Sequence[Sequence]): Cells: text, numbers (shown with four digits) or
            None.

    Returns:
        str: The table, without a newline at the end.
    """
    align = ['---', *['---:'] * (len(head) - 1)]
    lines = [head, align, *([_cell(value) for value in row] for row in rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def _cell(value: str | float | None) -> str:
    if value is None:
        return '-'
    return value if isinstance(value, str) else f'{value:.4g}'


def save(stem: str | Path, text: str, record: Mapping[str, Any]) -> None:
    """Write `<stem>.md` and `<stem>.json`, each atomically.

    Args:
        stem (str | Path): Path without suffix; its folder must exist.
        text (str): Content of the Markdown file.
        record (Mapping[str, Any]): Content of the JSON file, in plain types.
    """
    content = json.dumps(record, indent=1, allow_nan=False)
    for suffix, lines in (('.md', text), ('.json', content)):
        write_text(lines + '\n', f'{stem}{suffix}')
