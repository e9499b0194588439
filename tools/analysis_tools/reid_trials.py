"""Mean and deviation of test runs, such as the ten trials of RegDB.

RegDB has ten splits, and each needs a model of its own; `tools/regdb_trials.py` trains
and tests them. Give the folders or the result files of test runs here; the newest
result of a folder is used.

    python tools/analysis_tools/reid_trials.py work_dirs/regdb_1 work_dirs/regdb_2
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmir.cli import cli
from mmir.evaluation.tables import markdown, numbers
from mmir.utils.errors import UserError
from mmir.utils.files import read_json, write_json

MEASURES = ('R1', 'R5', 'R10', 'R20', 'mAP', 'mINP')


def result_file(run: Path) -> Path:
    """Find the newest result of a test run.

    Args:
        run (Path): Result file, or a folder that mmengine wrote its logs to.

    Returns:
        Path: Result file.

    Raises:
        UserError: There is none.
    """
    if run.is_file():
        return run
    # mmengine names both the folder and the file by the time of the run
    found = [path for path in run.rglob('*.json') if path.stem == path.parent.name]
    if not found:
        raise UserError(f'{run} holds no result of a test run (<time>/<time>.json)')
    return max(found)


def read_run(run: Path) -> dict[str, dict[str, float]]:
    """Read a result.

    Args:
        run (Path): See :func:`result_file`.

    Returns:
        dict[str, dict[str, float]]: Protocol -> measure -> value.

    Raises:
        UserError: It holds no re-identification results.
    """
    path = result_file(run)
    content = read_json(path)
    if isinstance(content, dict):
        content = content.get('metrics', content)  # `test.py --out` writes more
    found: dict[str, dict[str, float]] = {}
    for name, value in numbers(content if isinstance(content, dict) else {}).items():
        protocol, _, measure = name.rpartition('/')
        if protocol and measure in MEASURES and value is not None:
            found.setdefault(protocol, {})[measure] = value
    if not found:
        raise UserError(f'{path} holds no results of mmir.VIReIDMetric')
    return found


def summarize(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict]:
    """Average the runs.

    Args:
        runs (Sequence[dict]): See :func:`read_run`.

    Returns:
        dict[str, dict]: Protocol -> `mean` and `std` of every measure.

    Raises:
        UserError: The runs were tested by different protocols.
    """
    if any(run.keys() != runs[0].keys() for run in runs):
        named = sorted({', '.join(sorted(run)) for run in runs})
        raise UserError(f'runs by different protocols: {"; ".join(named)}')
    found = {}
    for protocol in runs[0]:
        rows = np.array([[run[protocol][m] for m in MEASURES] for run in runs])
        found[protocol] = {
            'mean': dict(zip(MEASURES, rows.mean(0).tolist(), strict=True)),
            'std': dict(zip(MEASURES, rows.std(0).tolist(), strict=True)),
        }
    return found


def table(summary: dict[str, dict], count: int) -> str:
    """Markdown table of a summary of so many runs."""
    rows = [
        [protocol, f'{kind} of {count}', *(f'{values[m]:.2f}' for m in MEASURES)]
        for protocol, kinds in summary.items()
        for kind, values in kinds.items()
    ]
    return markdown(('protocol', 'runs', *MEASURES), rows)


def main(arguments: Sequence[str] | None = None) -> dict[str, dict]:
    """Print the table; return the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', nargs='+', type=Path, help='work folders or JSON files')
    parser.add_argument('--out', type=Path, help='JSON file to write')
    args = parser.parse_args(arguments)
    summary = summarize([read_run(run) for run in args.runs])
    print(table(summary, len(args.runs)))
    if args.out:
        write_json(dict(runs=[str(run) for run in args.runs], **summary), args.out)
    return summary


if __name__ == '__main__':
    sys.exit(cli.run(main))
