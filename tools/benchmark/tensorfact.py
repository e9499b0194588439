"""Speed and memory of TensorFact vs. dense convolutions: single layers and networks.

All variants take turns in one run; ratios to the dense model are computed per round.
Measures the forward pass in evaluation and a training step (forward and backward).
Includes tensorly-torch if it is installed.

    python tools/benchmark/tensorfact.py                           # layers, YOLOv7-tiny
    python tools/benchmark/tensorfact.py --nets l --layers         # YOLOv7-L only
    python tools/benchmark/tensorfact.py --all-layers tiny --nets  # all geometries
"""

import argparse
import copy
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import torch
from _timing import (
    Call,
    clock_for,
    environment,
    keep_memory,
    peak_memory,
    summarize,
    take_turns,
)
from _variants import (
    BASELINE,
    CONTROL,
    TABLE,
    Case,
    Geometry,
    Variant,
    geometries,
    rivals,
    variants,
    yolov7,
)
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from mmir.cli import cli
from mmir.tensorfact.execution import MODES
from mmir.utils.files import write_json

Amp = Callable[[], AbstractContextManager]
Row = dict[str, Any]
PHASES = ('forward', 'train')


def forward_call(model: nn.Module, x: Tensor, amp: Amp) -> Call:
    """Forward pass in evaluation mode, without a graph."""
    model.eval()

    def call() -> None:
        with torch.no_grad(), amp():
            model(x)

    return call


def train_call(model: nn.Module, x: Tensor, amp: Amp) -> Call:
    """Forward and backward pass in training mode, with a fixed output gradient."""
    model.train()

    def outputs() -> list[Tensor]:
        with amp():
            y = model(x)
        return [y] if isinstance(y, Tensor) else list(y)

    gradients = [torch.randn_like(y) for y in outputs()]

    def call() -> None:
        torch.autograd.backward(outputs(), gradients)
        model.zero_grad()
        x.grad = None

    return call


def measure(
    case: Case, found: Sequence[Variant], args: argparse.Namespace
) -> list[Row]:
    """Time all variants of a case in turns; one row per variant and phase."""
    layout = torch.channels_last if args.channels_last else torch.preserve_format
    models: dict[str, nn.Module] = {}
    for variant in found:
        try:
            model = variant.build(copy.deepcopy(case.model))
        except ValueError as error:
            case.skipped[variant.name] = str(error)
            continue
        models[variant.name] = model.to(args.device, memory_format=layout)
    x = case.x.detach().to(args.device, memory_format=layout)
    x.requires_grad_(case.x.requires_grad)
    amp = nullcontext
    if args.dtype == 'bf16':
        amp = partial(torch.autocast, args.device, torch.bfloat16)
    rounds = args.net_rounds if case.scope == 'net' else args.rounds
    rows: list[Row] = []
    for phase, make in zip(PHASES, (forward_call, train_call), strict=True):
        active = [v for v in found if phase in v.phases and v.name in models]
        calls = {v.name: make(models[v.name], x, amp) for v in active}
        clock = clock_for(args.device, args.threads)
        stats = summarize(take_turns(calls, rounds, clock), BASELINE)
        rows += [
            dict(
                case=case.name,
                scope=case.scope,
                phase=phase,
                variant=v.name,
                kind=v.kind,
                rank=v.rank,
                params=sum(p.numel() for p in models[v.name].parameters()),
                **stats[v.name],
                memory=peak_memory(calls[v.name], args.device),
            )
            for v in active
        ]
    return rows


def cases(args: argparse.Namespace) -> Iterator[Case]:
    """The layers, then the networks."""
    found = [geometries(yolov7(arch, args.size, 1)) for arch in args.all_layers]
    for geometry in dict.fromkeys(chain(*found)) if found else args.layers:
        yield geometry.case(args.batch)
    for arch in args.nets:
        yield yolov7(arch, args.size, args.batch)


def _select(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]


def targets(rows: Sequence[Row], device: str) -> list[dict[str, Any]]:
    """Compare the measurements with the performance targets.

    Returns:
        Per measured target its `name`, `limit`, worst `value`, `where` that occurred
        and whether it `passed`.
    """
    auto = _select(rows, kind='auto')
    wishes: list[tuple[str, list[Row], float, bool]] = [
        (
            'training step of the network, auto / dense',
            _select(auto, scope='net', phase='train'),
            1.05,
            False,
        ),
        ('inference, merged / dense', _select(rows, kind='merged'), 1.03, False),
        ('inference, auto / dense', _select(auto, phase='forward'), 1.03, False),
    ]
    if device == 'cpu':
        fast = _select(auto, scope='net', phase='forward', rank=1)
        wishes.append(('inference of the network, dense / auto r=1', fast, 1.4, True))
    results = []
    for name, chosen, limit, faster in wishes:
        if chosen:
            worst = max(chosen, key=lambda row: row['ratio'][1])
            value = 1 / worst['ratio'][1] if faster else worst['ratio'][1]
            results.append(
                dict(
                    name=name,
                    limit=limit,
                    value=value,
                    where=f'{worst["case"]}, {worst["variant"]}',
                    passed=value >= limit if faster else value <= limit,
                )
            )
    return results


def noise(rows: Sequence[Row]) -> float:
    """Largest deviation from 1 of the ratio of the dense model measured twice."""
    control = _select(rows, variant=CONTROL)
    return max((abs(row['ratio'][1] - 1) for row in control), default=math.nan)


def table(rows: Sequence[Row], case: str) -> str:
    """Markdown table of one case."""
    lines = [
        f'**{case}**',
        '',
        '| variant | params | forward ms | / dense | MB | train ms | / dense | MB |',
        '|---|---|---|---|---|---|---|---|',
    ]
    mine = _select(rows, case=case)
    for name in dict.fromkeys(row['variant'] for row in mine):
        cells = [name]
        for phase in PHASES:
            for row in _select(mine, variant=name, phase=phase):
                cells[1:2] = [f'{row["params"]:,}']
                low, middle, high = row['ratio']
                cells += [
                    f'{row["ms"][1]:.2f}',
                    f'{middle:.2f} ({low:.2f}-{high:.2f})',
                    f'{row["memory"] / 2**20:.1f}',
                ]
        cells += [''] * (8 - len(cells))
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def verdicts(results: Sequence[dict[str, Any]], rows: Sequence[Row]) -> str:
    """Markdown table of the targets."""
    lines = ['| target | limit | worst | where | |', '|---|---|---|---|---|']
    for r in results:
        lines.append(
            f'| {r["name"]} | {r["limit"]:.2f} | {r["value"]:.3f} | {r["where"]} | '
            f'{"pass" if r["passed"] else "MISS"} |'
        )
    last = f'dense measured twice differs by up to {noise(rows):.1%}'
    return '\n'.join([*lines, '', last])


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Plot time relative to dense over the rank, one plot per case, training dotted."""
    names = list(dict.fromkeys(row['case'] for row in rows))
    columns = min(3, len(names))
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * lines + 1), layout='constrained')
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    kinds = list(dict.fromkeys(row['kind'] for row in rows if row['rank']))
    for ax, name in zip(axes, names, strict=False):
        for k, (kind, phase) in enumerate(product(kinds, PHASES)):
            mine = _select(rows, case=name, phase=phase, kind=kind)
            mine = sorted(mine, key=lambda row: row['rank'])
            ax.plot(
                [row['rank'] for row in mine],
                [row['ratio'][1] for row in mine],
                '-' if phase == 'forward' else ':',
                color=f'C{k // 2}',
                marker='o' if phase == 'forward' else '^',
                markersize=4,
                label=f'{kind}, {phase}' if name == names[0] else None,
            )
        ax.axhline(1, color='black', linewidth=0.8)
        ax.set(title=name, xlabel='rank', ylabel='time / dense', yscale='log')
        ax.grid(alpha=0.3, which='both')
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    figure.legend(loc='outside lower center', ncols=2 * columns, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition('x')
    return int(height), int(width or height)


def _geometry(text: str) -> Geometry:
    found = re.fullmatch(r'(\d+)x(\d+)@(\d+)x(\d+)(?:/(\d+))?', text)
    if not found:
        raise argparse.ArgumentTypeError(
            f'{text!r}: write a layer as OUTxIN@HEIGHTxWIDTH or ...xWIDTH/STRIDE'
        )
    return Geometry(*(int(n or 1) for n in found.groups()))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--nets', nargs='*', choices=['tiny', 'l'], default=['tiny'])
    add('--layers', nargs='*', type=_geometry, default=TABLE, help='OUTxIN@HxW/STRIDE')
    add(
        '--all-layers',
        nargs='*',
        choices=['tiny', 'l'],
        default=[],
        help='instead of --layers: every 3x3 geometry of these networks',
    )
    add('--size', type=_size, default=(640, 640), help='image size, HEIGHTxWIDTH')
    add('--batch', type=int, default=1)
    add('--ranks', nargs='+', type=int, default=[1, 2, 4, 8])
    add('--middle', type=int, default=4, help='rank for modes where it matters little')
    add('--modes', nargs='+', choices=MODES, default=MODES)
    add('--rounds', type=int, default=11, help='rounds per layer')
    add('--net-rounds', type=int, default=7, help='rounds per network')
    add('--threads', type=int, default=1)
    add('--device', choices=['cpu', 'cuda'], default='cpu')
    add('--dtype', choices=['fp32', 'bf16'], default='fp32', help='bf16: autocast')
    add('--channels-last', action='store_true')
    add('--out', type=Path, default=Path('work_dirs/benchmark/tensorfact'))
    args = parser.parse_args(arguments)
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('no CUDA device; --device cpu')
    return args


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure; write `results.json`, `table.md`, `ratios.png`; return the results."""
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    ours = variants(args.ranks, args.middle, args.modes)
    theirs, rival = rivals(sorted({args.ranks[0], args.middle}))
    result: dict[str, Any] = dict(
        environment=environment(args.device, rival=rival, **_plain(args)),
        rows=[],
        skipped={},
    )
    rows: list[Row] = result['rows']
    for case in (bar := tqdm(list(cases(args)), unit='case')):
        bar.set_description(case.name)
        rows += measure(case, ours if case.scope == 'net' else ours + theirs, args)
        result['skipped'][case.name] = case.skipped
        result['targets'] = targets(rows, args.device)
        write_json(result, args.out / 'results.json', indent=1)
    names = dict.fromkeys(row['case'] for row in rows)
    parts = [table(rows, name) for name in names]
    text = '\n\n'.join([*parts, verdicts(result['targets'], rows), rival])
    (args.out / 'table.md').write_text(text + '\n')
    plot(args.out / 'ratios.png', rows)
    print(text)
    return result


def _plain(args: argparse.Namespace) -> dict[str, Any]:
    """The options in JSON types, without those that select cases."""
    left_out = ('layers', 'nets', 'out', 'device')
    return {k: v for k, v in vars(args).items() if k not in left_out}


if __name__ == '__main__':
    keep_memory()
    sys.exit(cli.run(main))
