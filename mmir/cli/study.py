"""Studies of many training runs: resumable runs, tables of mean and spread."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config

from mmir.cli.stages import (
    count_parameters,
    curve,
    latest_checkpoint,
    read_scalars,
    train_stage,
)
from mmir.utils.files import write_json


def run_once(
    cfg: Config, work_dir: Path, settings: dict[str, object], metric: str
) -> dict:
    """Train and evaluate once; skip finished runs and resume interrupted ones.

    Args:
        cfg (Config): Complete config of the run.
        work_dir (Path): Folder of the run; the result is written to `result.json`.
        settings (dict): Plain values that distinguish the run; kept in the result.
        metric (str): A logged value of the evaluation, such as `coco/bbox_mAP_50`.

    Returns:
        dict: `settings`, `seconds`, `trainable` and `parameters` (numbers of elements),
        `checkpoint`, the curves `loss` and `metric` (steps and values), and `final`:
        `metric` and all other values of the last evaluation with a slash in their name.

    Raises:
        StageError: Training failed.
        ValueError: The run never logged `metric`.
    """
    done = work_dir / 'result.json'
    if done.is_file():
        return json.loads(done.read_text())
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / 'study.py'
    cfg.dump(path)
    seconds = train_stage([str(path), '--resume'], work_dir, work_dir.name)
    scalars = read_scalars(work_dir)
    last = next((row for row in reversed(scalars) if metric in row), None)
    if last is None:
        evaluations = [row for row in scalars if 'loss' not in row]
        if not evaluations or any('/' in key for row in evaluations for key in row):
            raise ValueError(
                f'{work_dir}: no {metric} was logged, is there an evaluation?'
            )
        last = {metric: 0.0}  # without any predicted box the host only logs the time
    trainable, total = count_parameters(cfg)
    result = dict(
        settings=settings,
        seconds=seconds,
        trainable=trainable,
        parameters=total,
        checkpoint=str(latest_checkpoint(work_dir)),
        loss=curve(scalars, 'loss'),
        metric=curve(scalars, metric),
        final={k: v for k, v in last.items() if '/' in k or k == metric},
    )
    write_json(result, done)
    return result


def collect(folder: Path) -> list[dict]:
    """Results of all finished runs in the direct subfolders of `folder`."""
    files = sorted(folder.glob('*/result.json'))
    return [json.loads(file.read_text()) for file in files]


def mean_std(values: Sequence[float]) -> str:
    """Mean and, for several values, sample standard deviation."""
    spread = f' ± {statistics.stdev(values):.3f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.3f}{spread}'


def grouped(rows: Sequence[dict], by: Sequence[str]) -> dict[tuple, list[dict]]:
    """Group results by some of their settings, sorted with numbers before words."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        key = tuple(row['settings'].get(name, '-') for name in by)
        groups.setdefault(key, []).append(row)

    numbers = int | float
    ordered = sorted(
        groups,
        key=lambda key: [
            (0, v, '') if isinstance(v, numbers) else (1, 0, str(v)) for v in key
        ],
    )
    return {key: groups[key] for key in ordered}


def table(
    rows: Sequence[dict], by: Sequence[str], columns: dict[str, Callable[[dict], float]]
) -> str:
    """Markdown table of runs; runs that differ only in other settings share a line.

    Args:
        rows (Sequence[dict]): Results of `run_once`.
        by (Sequence[str]): Settings that define a line; lines are sorted by them.
        columns (dict): Column title -> function from a result to its value.

    Returns:
        str: Table of settings, number of runs, mean ± standard deviation per column,
        trainable parameters, minutes per run.
    """
    head = [*by, 'runs', *columns, 'trainable', 'minutes per run']
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    for key, group in grouped(rows, by).items():
        cells = [*map(str, key), str(len(group))]
        cells += [mean_std([value(row) for row in group]) for value in columns.values()]
        minutes = statistics.mean(row['seconds'] for row in group) / 60
        cells += [f'{group[0]["trainable"]:,}', f'{minutes:.1f}']
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def pivot(
    rows: Sequence[dict], line: str, column: str, value: Callable[[dict], float]
) -> str:
    """Markdown table of one value over two settings.

    Args:
        rows (Sequence[dict]): Results of `run_once`.
        line (str): Setting that defines a line.
        column (str): Setting that defines a column.
        value (Callable): Function from a result to its value.

    Returns:
        str: Table of mean ± standard deviation over the runs of a cell. The number of
        runs is given where it differs from that of most cells.
    """
    cells = grouped(rows, [line, column])
    columns = [key for (key,) in grouped(rows, [column])]
    usual = statistics.mode(len(group) for group in cells.values())
    head = [line, *(f'{key} {column}' for key in columns)]
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    for (name,) in grouped(rows, [line]):
        texts = [str(name)]
        for key in columns:
            group = cells.get((name, key), [])
            text = mean_std([value(row) for row in group]) if group else ''
            runs = len(group)
            plural = 's' if runs > 1 else ''
            texts.append(
                f'{text} ({runs} run{plural})' if group and runs != usual else text
            )
        lines.append('| ' + ' | '.join(texts) + ' |')
    return '\n'.join(lines)
