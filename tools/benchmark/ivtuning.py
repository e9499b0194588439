"""Speed and memory of IV-tuning beside full fine-tuning and other methods.

Measures for a vision transformer, with the same light head on each row

- a training step: time, peak memory, bytes of the activations that autograd saves;
- inference on one image beside the frozen RGB backbone;
- the size of the adapter file beside the backbone's.

Weights and images are random. On a GPU: ViT-B and EVA-02-L at 512 pixels. On a CPU:
ViT-S at 224 pixels, with saved activations and resident tensors in the place of the
peak. Prints Markdown and writes JSON. `make gpu` runs it last.

    python tools/benchmark/ivtuning.py --out docs/results/ivtuning_speed.md
"""

import argparse
import gc
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _ivtuning_rows import (
    ADAPTER_FILES,
    COMPILED,
    DUAL,
    FROZEN,
    FULL,
    NETWORKS,
    ROWS,
    Run,
)
from _saved import count_saved
from _timing import (
    NO_GPU,
    Deadline,
    clock_for,
    driver,
    environment,
    keep_memory,
    summarize,
    take_turns,
)

from mmir.adapters import save_adapter
from mmir.cli import cli
from mmir.engine.autocast import has_bfloat16
from mmir.utils.files import write_json, write_text

Row = dict[str, Any]
TARGETS = dict(step=0.8, memory=0.65, adapter=0.035, inference=1.06)
"""Largest ratios that IV-tuning aims at; the adapter's on a Large backbone."""
LINES = 12
"""Number of lines of code, those that save most, in the JSON file."""


def fitting_batch(make: partial[Run], batch: int) -> int:
    """Halve the batch until a step of the hungriest row fits into memory."""
    while True:
        try:
            make(DUAL, batch).step()
            return batch
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        batch //= 2  # outside the handler, which keeps the tensors alive
        torch.cuda.empty_cache()


def memory_row(make: partial[Run], name: str, batch: int) -> Row:
    """Measure the memory of a row alone, and the size of its adapter file."""
    cuda = make.keywords['device'] == 'cuda'
    gc.collect()  # or the row before would be freed while this one is measured
    before = torch.cuda.memory_allocated() if cuda else 0
    run = make(name, batch)
    with count_saved(run.model) as saved:
        loss = run.loss()
    del loss
    run.step()  # allocates the state of the optimizer
    memory = run.resident_bytes() + saved.bytes
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        run.step()
        torch.cuda.synchronize()
        memory = torch.cuda.max_memory_allocated() - before
    return dict(
        name=name,
        trainable=sum(p.numel() for p in run.trainable),
        memory=memory,
        resident=run.resident_bytes(),
        activations=saved.bytes,
        adapter=adapter_share(run) if name in ADAPTER_FILES else None,
        saved=dict(saved.by_line.most_common(LINES)),
    )


def adapter_share(run: Run) -> float:
    """Bytes of the adapter file as a fraction of the plain backbone's file."""
    backbone = run.model['backbone']
    with tempfile.TemporaryDirectory() as folder:
        size = save_adapter(backbone, Path(folder) / 'adapter.pth')
    own = (p.nbytes for k, p in backbone.named_parameters() if '.adapters.' not in k)
    return size / sum(own)


def time_rows(
    make: partial[Run], rows: Sequence[Row], batch: int, args: argparse.Namespace
) -> list[Row]:
    """Time steps and inference, in turns if all rows fit into memory together."""
    clock = clock_for(args.device, args.threads)
    gc.collect()
    torch.cuda.empty_cache()
    need = sum(r['resident'] for r in rows) + max(r['memory'] for r in rows)
    together = args.device == 'cpu' or need < 0.9 * torch.cuda.mem_get_info()[0]
    names = [row['name'] for row in rows]
    steps, infers = {}, {}
    for group in [names] if together else [[name] for name in names]:
        runs = {name: make(name, batch) for name in group}
        for kind, times in (('step', steps), ('infer', infers)):
            for run in runs.values():
                run.model.train(kind == 'step')
            calls = {name: getattr(run, kind) for name, run in runs.items()}
            times |= take_turns(calls, args.rounds, clock, args.span)
        del run, runs, calls
    for kind, times, base in (('step', steps, FULL), ('inference', infers, FROZEN)):
        stats = summarize(times, base)
        for row in rows:
            row[kind] = stats[row['name']]['ms'][1]
            row[f'{kind}_ratio'] = stats[row['name']]['ratio'][1]
    return [dict(together=together)]


def measure_network(
    key: str, precision: str, deadline: Deadline, args: argparse.Namespace
) -> dict[str, Any]:
    """Measure all rows of a network at a precision."""
    network = NETWORKS[key]
    what = f'{network.name}, {precision}'
    make = partial(Run, network, device=args.device, precision=precision)
    found = deadline.run(what, lambda: [dict(batch=fitting_batch(make, args.batch))])
    if not found:
        return {}
    batch, rows = found[0]['batch'], []
    for name in (*ROWS, *(COMPILED if args.compile else ())):
        row = partial(memory_row, make, name, batch)
        rows += deadline.run(f'{what}, {name}', lambda row=row: [row()])
    done = {row['name'] for row in rows}
    if not {FULL, FROZEN} <= done:
        return {}
    full = next(row for row in rows if row['name'] == FULL)
    for row in rows:
        for kind in ('memory', 'activations'):
            row[f'{kind}_ratio'] = row[kind] / full[kind]
    timed = deadline.run(f'{what}, times', lambda: time_rows(make, rows, batch, args))
    return dict(
        network=network.name,
        precision=precision,
        size=network.size,
        batch=batch,
        in_turns=bool(timed and timed[0]['together']),
        rows=rows,
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every network at every precision."""
    deadline, tables = Deadline(args.limit), []
    for key in args.networks:
        for precision in NETWORKS[key].precisions:
            if precision == 'bf16' and not args.bf16:
                continue
            table = measure_network(key, precision, deadline, args)
            tables += [table] if table else []
            if args.device == 'cuda':
                torch.cuda.empty_cache()
    where = dict(driver=driver(), cuda=torch.version.cuda, threads=args.threads)
    return dict(
        environment=environment(args.device, **where),
        on_gpu=args.device == 'cuda',
        targets=TARGETS,
        tables=tables,
        left_out=deadline.left_out,
    )


def page(result: dict[str, Any]) -> str:
    """Format the measurements as a Markdown page."""
    env = result['environment']
    gpu = f', driver {env["driver"] or "unknown"}'
    cpu = f', {env["threads"]} thread{"s"[: env["threads"] > 1]}'
    peak = 'is the peak of a training step, all included'
    if not result['on_gpu']:
        peak = 'is resident tensors plus saved activations'
    lines = [
        '# Speed and memory of IV-tuning',
        '',
        f'{env["device"]}{gpu if result["on_gpu"] else cpu}, torch {env["torch"]}, '
        f'Python {env["python"]}. Random weights and images; a 1x1 convolution as the '
        'head; AdamW; medians.',
        f'Memory {peak}. Activations are the bytes that autograd saves. Ratios are to '
        'the first row, those of',
        'inference (one image, without the head) to the frozen RGB backbone. The '
        "adapter file is relative to the backbone's; its target is that of a Large",
        'backbone.',
        '',
        '```bash',
        'python tools/benchmark/ivtuning.py --out docs/results/ivtuning_speed.md',
        '```',
    ]
    for table in result['tables']:
        lines += [
            '',
            f'## {table["network"]}, {table["size"]} px, batch {table["batch"]}, '
            f'{table["precision"]}',
            '',
            *_table(table['rows'], result['targets']),
        ]
        if not table['in_turns']:
            lines += ['', 'The rows were timed one by one.']
    if result['left_out']:
        lines += ['', '## Left out', '', *(f'- {name}' for name in result['left_out'])]
    return '\n'.join(lines) + '\n'


def _table(rows: Sequence[Row], targets: dict[str, float]) -> list[str]:
    def cells(row: Row, kind: str, scale: float, digits: int) -> str:
        if kind not in row:  # there was no time
            return '- | -'
        return f'{row[kind] * scale:.{digits}f} | {row[f"{kind}_ratio"]:.2f}'

    lines = [
        '| method | trains | step ms | ratio | memory GB | ratio | activations GB | '
        'ratio | adapter file | inference ms | ratio |',
        '|---|---|---|---|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        share = '-' if row['adapter'] is None else f'{row["adapter"]:.1%}'
        lines.append(
            f'| {row["name"]} | {row["trainable"] / 1e6:.2f} M '
            f'| {cells(row, "step", 1, 1)} | {cells(row, "memory", 1e-9, 3)} '
            f'| {cells(row, "activations", 1e-9, 3)} | {share} '
            f'| {cells(row, "inference", 1, 2)} |'
        )
    lines.append(
        f'| target | | | {targets["step"]} | | {targets["memory"]} | | | '
        f'{targets["adapter"]:.1%} | | {targets["inference"]} |'
    )
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; the defaults depend on the device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    add('--device', choices=['cuda', 'cpu'], default=default)
    add('--if-present', action='store_true', help='without a GPU, measure nothing')
    add('--networks', nargs='+', choices=NETWORKS, help='default: see above')
    add('--batch', type=int, help='largest batch; on a GPU halved until it fits')
    add('--rounds', type=int, help='times that everything is timed')
    add('--threads', type=int, default=1, help='threads on a CPU')
    add('--compile', action='store_true', help='compiled networks, too')
    add('--limit', type=float, default=140, help='start nothing after these seconds')
    add('--out', type=Path, help='page to write; the JSON file lies beside it')
    args = parser.parse_args(arguments)
    gpu = args.device == 'cuda'
    args.networks = args.networks or (['vit-b', 'eva02-l'] if gpu else ['vit-s'])
    args.batch, args.rounds = (
        args.batch or (8 if gpu else 2),
        args.rounds or 3 + 4 * gpu,
    )
    args.span, args.bf16 = 0.02 if gpu else 0.0, gpu and has_bfloat16('cuda')
    out = args.out or Path('work_dirs/benchmark/ivtuning.md')
    args.json = out.with_suffix('.json')
    return args


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print and write; return the results, empty without a wanted GPU."""
    args = parse(arguments)
    if not torch.cuda.is_available() and (args.if_present or args.device == 'cuda'):
        if not args.if_present:
            sys.exit(f'error: {NO_GPU}.')
        print(f'skipped: {NO_GPU}.')
        return {}
    import mmpretrain.models  # noqa: F401 registers the backbones

    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.compile:  # all rows share the code of a host's `forward`
        torch._dynamo.config.recompile_limit = 64
    result = measure(args)
    text = page(result)
    print(text)
    write_json(result, args.json, indent=1)
    if args.out:
        write_text(text, args.out)
    return result


if __name__ == '__main__':
    sys.exit(cli.run(main))
