"""Speed and memory on a CUDA GPU: training, inference, operators.

Measures

- a training step of every method of adaptation on YOLOv7-tiny and YOLOv7-L in fp32,
  bf16 and fp16;
- inference with adapters and merged;
- the operators in plain torch and those of torchvision.

Images and weights are random. Prints Markdown and writes JSON. It stops after `--limit`
seconds and lists what it left out. `make gpu` runs it after the tests.

    python tools/benchmark/gpu.py --out docs/results/gpu.md
"""

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _detectors import (
    MERGING,
    METHODS,
    PRECISIONS,
    adapted,
    batch,
    detector,
    optim_wrapper,
    resident_bytes,
)
from _gpu_ops import Operator, operators
from _timing import (
    NO_GPU,
    Call,
    Deadline,
    clock_for,
    driver,
    environment,
    peak_memory,
    summarize,
    take_turns,
)
from torch import Tensor, nn

from mmir.adapters import merge_
from mmir.cli import cli
from mmir.compat import ops_kind
from mmir.engine.autocast import has_bfloat16
from mmir.utils.files import write_json, write_text

Row = dict[str, Any]
AUTOCAST = dict(bf16=torch.bfloat16, fp16=torch.float16)


def training_row(
    model: nn.Module, method: str, precision: str, args: argparse.Namespace
) -> Row:
    """Time training steps; halves the batch until it fits into memory."""
    images = args.batch
    while True:
        try:
            return _training_row(model, method, precision, images, args)
        except torch.OutOfMemoryError:
            if images == 1:
                raise
        images //= 2  # outside the handler, which keeps the tensors alive
        torch.cuda.empty_cache()


def _training_row(
    model: nn.Module, method: str, precision: str, images: int, args: argparse.Namespace
) -> Row:
    model = copy.deepcopy(model).to(args.device).train()
    optimizer = optim_wrapper(model, precision)
    data = batch(images, args.size, args.device)
    step = partial(model.train_step, data, optimizer)
    clock = clock_for(args.device, 0)
    times = take_turns({'step': step}, args.rounds, clock, min_seconds=0)
    seconds = sorted(times['step'])[len(times['step']) // 2]
    return dict(
        method=method,
        precision=precision,
        batch=images,
        ms=1e3 * seconds,
        images_per_second=images / seconds,
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        memory=resident_bytes(model, optimizer) + peak_memory(step, args.device),
    )


def inference_rows(
    model: nn.Module, method: str, precision: str, args: argparse.Namespace
) -> list[Row]:
    """Time the network on one image, with adapters and merged, in turns."""
    own = copy.deepcopy(model).to(args.device).eval()
    models = dict(adapters=own, merged=merge_(copy.deepcopy(own)))
    data = own.data_preprocessor(batch(1, args.size, args.device), False)

    def autocast() -> AbstractContextManager:
        if precision == 'fp32':
            return nullcontext()
        return torch.autocast(args.device, AUTOCAST[precision])

    def call(network: nn.Module) -> None:
        with torch.no_grad(), autocast():
            network(data['inputs'], data['data_samples'], mode='tensor')

    calls = {name: partial(call, network) for name, network in models.items()}
    times = take_turns(calls, args.rounds, clock_for(args.device, 0), args.span)
    stats = summarize(times, 'merged')
    return [
        dict(method=method, precision=precision, form=name, ms=v['ms'][1])
        for name, v in stats.items()
    ]


def operator_row(operator: Operator, args: argparse.Namespace) -> Row:
    """Time an operator and its torchvision equivalent, forward and with gradients."""
    both = dict(ours=operator.ours, torchvision=operator.theirs)
    both = {name: function for name, function in both.items() if function}
    row: Row = dict(operator=operator.name)
    phases: dict[str, Callable[[Callable[..., Tensor]], Call]] = dict(
        forward=partial(_forward, operator.inputs)
    )
    if operator.derives:
        phases['backward'] = partial(_with_gradients, operator.inputs)
    for phase, make in phases.items():
        calls = {name: make(function) for name, function in both.items()}
        times = take_turns(calls, args.rounds, clock_for(args.device, 0), args.span)
        stats = summarize(times, 'ours')
        row[phase] = {name: v['ms'][1] for name, v in stats.items()}
    return row


def _forward(inputs: Sequence[Tensor], function: Callable[..., Tensor]) -> Call:
    def call() -> None:
        with torch.no_grad():
            function(*inputs)

    return call


def _with_gradients(inputs: Sequence[Tensor], function: Callable[..., Tensor]) -> Call:
    leaves = [each.detach().requires_grad_() for each in inputs]

    def call() -> None:
        torch.autograd.grad(function(*leaves).sum(), leaves)

    return call


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything, small networks first."""
    deadline = Deadline(args.limit)
    tables: dict[str, Any] = dict(training={}, inference={}, operators=[])
    for number, arch in enumerate(args.archs):
        name, plain = f'YOLOv7-{arch}', detector(arch)
        train = tables['training'][name] = []
        infer = tables['inference'][name] = []
        for method in args.methods:
            model = adapted(plain, method)
            for precision in args.precisions:
                what = f'{name}, {method}, {precision}'
                row = partial(training_row, model, method, precision, args)
                train += deadline.run(f'{what}, training', lambda row=row: [row()])
                if method in MERGING:
                    rows = partial(inference_rows, model, method, precision, args)
                    infer += deadline.run(f'{what}, inference', rows)
                if args.device == 'cuda':
                    torch.cuda.empty_cache()
        if number == 0:
            for operator in operators(args.device, args.quick):
                row = partial(operator_row, operator, args)
                tables['operators'] += deadline.run(
                    operator.name, lambda row=row: [row()]
                )
    return dict(
        environment=environment(
            args.device,
            driver=driver(),
            cuda=torch.version.cuda,
            tf32=torch.backends.cudnn.allow_tf32,
            operators=ops_kind(),
            size=args.size,
        ),
        left_out=deadline.left_out,
        **tables,
    )


def page(result: dict[str, Any]) -> str:
    """Format the measurements as a Markdown page."""
    env = result['environment']
    tf32 = 'on' if env['tf32'] else 'off'
    lines = [
        '# Speed on a GPU',
        '',
        f'{env["device"]}, driver {env["driver"] or "unknown"}, torch {env["torch"]}, '
        f'Python {env["python"]}. Random weights; random images of {env["size"]} '
        'pixels with eight boxes each,',
        f'already on the device; AdamW; medians. fp32 has TF32 convolutions {tf32}; '
        'bf16 and fp16 are autocast, fp16 with loss scaling.',
        'GB is the peak of weights, optimizer state and training step together.',
        '',
        '```bash',
        'python tools/benchmark/gpu.py --out docs/results/gpu.md',
        '```',
    ]
    for name, rows in result['training'].items():
        lines += ['', f'## Training step of {name}', '', *_training_table(rows)]
    for name, rows in result['inference'].items():
        lines += ['', f'## Inference of {name}, one image', '']
        lines += [
            '| method | precision | adapters ms | merged ms |',
            '|---|---|---|---|',
        ]
        times = {(r['method'], r['precision'], r['form']): r['ms'] for r in rows}
        for method, precision in dict.fromkeys(key[:2] for key in times):
            two = (times[method, precision, form] for form in ('adapters', 'merged'))
            cells = ' | '.join(f'{ms:.2f}' for ms in two)
            lines.append(f'| {method} | {precision} | {cells} |')
    lines += ['', f'## Operators ({env["operators"]})', '']
    lines += _operator_table(result['operators'])
    if result['left_out']:
        lines += ['', '## Left out', '', *(f'- {name}' for name in result['left_out'])]
    return '\n'.join(lines) + '\n'


def _training_table(rows: Sequence[Row]) -> list[str]:
    lines = ['| method | precision | trains | batch | ms | images/s | GB |']
    lines.append('|---|---|---|---|---|---|---|')
    lines += [
        f'| {r["method"]} | {r["precision"]} | {r["trainable"] / 1e6:.2f} M | '
        f'{r["batch"]} | {r["ms"]:.1f} | {r["images_per_second"]:.0f} | '
        f'{r["memory"] / 1e9:.2f} |'
        for r in rows
    ]
    return lines


def _operator_table(rows: Sequence[Row]) -> list[str]:
    """Milliseconds of both; a dash where torchvision has no such operator."""
    lines = [
        '| operator | forward ms | torchvision | with gradients ms | torchvision |'
    ]
    lines.append('|---|---|---|---|---|')
    for row in rows:
        cells = [
            f'{row[phase][name]:.3f}' if name in row.get(phase, {}) else '-'
            for phase in ('forward', 'backward')
            for name in ('ours', 'torchvision')
        ]
        lines.append(f'| {row["operator"]} | {" | ".join(cells)} |')
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; `--quick` makes everything small."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--device', choices=['cuda', 'cpu'], default='cuda')
    add('--quick', action='store_true', help='toy sizes, to test this program')
    add('--if-present', action='store_true', help='without a GPU, do not fail')
    add('--archs', nargs='+', choices=['tiny', 'l', 'x'], default=['tiny', 'l'])
    add('--methods', nargs='+', choices=METHODS, default=list(METHODS))
    add('--size', type=int, default=640, help='image size in pixels')
    add('--batch', type=int, default=16, help='largest batch; halved until it fits')
    add('--rounds', type=int, default=11)
    add('--limit', type=float, default=240, help='start nothing after these seconds')
    add('--out', type=Path, help='page to write')
    add('--json', type=Path, default=Path('work_dirs/benchmark/gpu.json'))
    args = parser.parse_args(arguments)
    if args.device == 'cpu' and not args.quick:
        parser.error('--device cpu is only for --quick: its numbers mean nothing')
    if args.device == 'cpu' and args.out:
        parser.error('--out is only for measurements on a GPU')
    args.span, args.precisions = 0.02, PRECISIONS
    if args.device == 'cuda' and not has_bfloat16('cuda'):
        args.precisions = tuple(p for p in PRECISIONS if p != 'bf16')
    if args.quick:
        args.archs, args.size, args.batch = args.archs[:1], 64, 2
        args.rounds, args.span = 1, 0.0
    if args.device == 'cpu':  # mmengine's AmpOptimWrapper rejects CPUs
        args.precisions = tuple(p for p in PRECISIONS if p != 'fp16')
    return args


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print and write; return the results, empty without a GPU."""
    args = parse(arguments)
    if args.device == 'cuda' and not torch.cuda.is_available():
        if not args.if_present:
            sys.exit(f'error: {NO_GPU}.')
        print(f'skipped: {NO_GPU}.')
        return {}
    torch.manual_seed(0)
    result = measure(args)
    text = page(result)
    print(text)
    write_json(result, args.json, indent=1)
    if args.out:
        write_text(text, args.out)
    return result


if __name__ == '__main__':
    sys.exit(cli.run(main))
