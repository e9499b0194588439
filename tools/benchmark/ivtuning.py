"""Speed and memory of IV-tuning against full fine-tuning, LoRA and two backbones.

Every row reads pairs, but for `full, RGB only` and the plain backbone of inference, and
has the same light head. Weights and images are random. Prints Markdown and writes JSON.

    python tools/benchmark/ivtuning.py --out docs/results/ivtuning_speed.md  # on a GPU
    python tools/benchmark/ivtuning.py --device cpu
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _timing import clock_for, environment, keep_memory, peak_memory, take_turns
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmir.adapters import adapt_, save_adapter
from mmir.cli import cli
from mmir.engine.autocast import has_bfloat16
from mmir.utils.files import write_json, write_text

Row = dict[str, Any]
CLASSES = 20
FULL, PLAIN = 'full', 'full, RGB only'
TARGETS = dict(memory=0.65, step=0.8, adapter=0.035, inference=1.06)
NETWORKS: dict[str, dict[str, Any]] = {
    'ViT-S/16': dict(type='mmpretrain.VisionTransformer', arch='deit-s'),
    'ViT-B/16': dict(type='mmpretrain.VisionTransformer', arch='b'),
    'EVA-02-L/16': dict(type='mmpretrain.ViTEVA02', arch='l', patch_size=16),
}
METHODS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    FULL: {},
    'two backbones': {},
    'frozen': dict(type='Frozen', norm='frozen'),
    'LoRA': dict(type='LoRA', norm='frozen'),
    'IV-tuning (hybrid)': dict(type='IVTuning'),
    'IV-tuning (mp)': dict(type='IVTuning', variant='mp'),
}


class Network(nn.Module):
    """Backbone and a 1x1 convolution.

    Args:
        backbones: One that reads the pair, or one per image.
        channels: Width of the last map.
    """

    def __init__(self, backbones: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)
        self.head = nn.Conv2d(channels, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, `CLASSES`, h, w) of pairs (N, 6, H, W)."""
        parts = x.split(3, 1) if len(self.backbones) > 1 else [x]
        maps = [b(p)[-1] for b, p in zip(self.backbones, parts, strict=True)]
        return self.head(sum(maps))


def network(name: str, method: str, size: int) -> Network:
    """Build a row on the CPU, adapted."""
    cfg = dict(NETWORKS[name], img_size=size, out_type='featmap')
    if method in (FULL, 'frozen', 'LoRA'):
        fusion = dict(channels=(3, 3), init='zero')
        cfg = dict(cfg, type='mmir.EarlyFusion', target=cfg['type'], fusion=fusion)
    backbones = [MODELS.build(cfg) for _ in range(1 + (method == 'two backbones'))]
    model = Network(backbones, backbones[0].embed_dims)
    if METHODS[method]:
        options = dict(METHODS[method])
        kind, stage = options.pop('type'), dict(trainable=['^head'])
        if kind != 'IVTuning':
            stage = dict(trainable=['^head', 'patch_embed'], norm=options.pop('norm'))
        adapt_(model, MODELS.build(dict(type=f'mmir.{kind}', **options)), **stage)
    return model


def kept_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes of the activations that autograd keeps for the backward pass."""
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = forward()
    total = sum(kept.values())
    loss.backward()
    return total


def training_row(name: str, method: str, args: argparse.Namespace) -> Row:
    """Time and memory of training steps, and the size of the adapter."""
    model = network(name, method, args.size)
    backbone = sum(p.numel() for p in model.backbones[0].parameters())
    adapter = adapter_bytes(model)
    model.to(args.device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    images = random_pairs(args.batch, args)[:, : 3 if method == PLAIN else 6]
    cells = args.size // 16
    labels = torch.randint(CLASSES, (args.batch, cells, cells), device=args.device)

    def forward() -> Tensor:
        with autocast(args):
            scores = model(images)
        return cross_entropy(scores.float(), labels)

    def step() -> None:
        optimizer.zero_grad()
        forward().backward()
        optimizer.step()

    clock = clock_for(args.device, torch.get_num_threads())
    seconds = take_turns({'step': step}, args.rounds, clock, 0)['step']
    kept = kept_bytes(forward, model)
    optimizer.zero_grad()
    state = [v for s in optimizer.state.values() for v in s.values()]
    held = sum(t.nbytes for t in (*model.parameters(), *model.buffers(), *state))
    gradients = sum(p.nbytes for p in trained)
    if args.device == 'cuda':
        memory = held + peak_memory(step, 'cuda')
    else:  # the profiler of the CPU would take minutes
        memory = held + gradients + kept
    return dict(
        method=method,
        trainable=sum(p.numel() for p in trained),
        ms=1e3 * statistics.median(seconds),
        memory=memory,
        activations=kept,
        adapter=adapter / (4 * backbone) if METHODS[method] else None,
    )


def adapter_bytes(model: Network) -> int:
    """Size of the adapter file without the head; 0 if not adapted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'adapter.pth'
        try:
            save_adapter(model, path)
        except ValueError:
            return 0
        return path.stat().st_size - sum(p.nbytes for p in model.head.parameters())


def inference_rows(name: str, args: argparse.Namespace) -> list[Row]:
    """Time of one pair, in turns: plain RGB backbone, LoRA, IV-tuning."""
    rows = PLAIN, 'two backbones', 'LoRA', 'IV-tuning (hybrid)', 'IV-tuning (mp)'
    pair, calls = random_pairs(1, args), {}

    @torch.no_grad()
    def call(model: nn.Module, x: Tensor) -> None:
        with autocast(args):
            model(x)

    for row in rows:
        model = network(name, row, args.size).to(args.device).eval()
        calls[row] = partial(call, model, pair[:, : 3 if row == PLAIN else 6])
    clock = clock_for(args.device, torch.get_num_threads())
    times = take_turns(calls, args.rounds, clock)
    medians = {row: 1e3 * statistics.median(v) for row, v in times.items()}
    return [dict(method=r, ms=v, ratio=v / medians[PLAIN]) for r, v in medians.items()]


def random_pairs(number: int, args: argparse.Namespace) -> Tensor:
    """Random pairs (`number`, 6, size, size) on the device."""
    return torch.randn(number, 6, args.size, args.size, device=args.device)


def autocast(args: argparse.Namespace) -> AbstractContextManager:
    """bfloat16 where it was asked for."""
    if args.precision == 'fp32':
        return nullcontext()
    return torch.autocast(args.device, torch.bfloat16)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all networks."""
    tables: dict[str, Any] = {}
    for name in args.networks:
        rows = []
        for method in METHODS:
            rows.append(training_row(name, method, args))
            if args.device == 'cuda':
                torch.cuda.empty_cache()
        tables[name] = dict(training=rows, inference=inference_rows(name, args))
    options = dict(size=args.size, batch=args.batch, precision=args.precision)
    return dict(environment=environment(args.device, **options), tables=tables)


def page(result: dict[str, Any]) -> str:
    """Format the measurements as a Markdown page."""
    env = result['environment']
    lines = [
        '# Speed and memory of IV-tuning',
        '',
        f'{env["device"]}, torch {env["torch"]}, {env["precision"]}, '
        f'{env["size"]} pixels, {env["batch"]} pairs per step, one in inference.',
        'Random weights and images, AdamW, medians. Memory is the peak of a step: '
        'weights, gradients, optimizer states, activations. `kept` are the activations',
        'that autograd keeps. Targets, relative to `full`: memory '
        f'{TARGETS["memory"]}, step {TARGETS["step"]}; adapter file '
        f'{100 * TARGETS["adapter"]:g} % of a Large backbone; inference '
        f'{TARGETS["inference"]} of the RGB backbone.',
        '',
        '```bash',
        'python tools/benchmark/ivtuning.py --out docs/results/ivtuning_speed.md',
        '```',
    ]
    for name, tables in result['tables'].items():
        lines += ['', f'## {name}', '', *_training_table(tables['training'])]
        lines += ['', '| inference | ms | by the RGB backbone |', '|---|---|---|']
        lines += [
            f'| {"RGB backbone" if r["method"] == PLAIN else r["method"]} '
            f'| {r["ms"]:.2f} | {r["ratio"]:.2f} |'
            for r in tables['inference']
        ]
    return '\n'.join(lines) + '\n'


def _training_table(rows: Sequence[Row]) -> list[str]:
    full = next(row for row in rows if row['method'] == FULL)
    lines = [
        '| training | trains | ms per step | by full | memory, GB | by full '
        '| kept, GB | by full | adapter file |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        cells = [row['method'], f'{row["trainable"] / 1e6:.2f} M']
        cells += [f'{row["ms"]:.1f}', f'{row["ms"] / full["ms"]:.2f}']
        for key in 'memory', 'activations':
            cells += [f'{row[key] / 1e9:.2f}', f'{row[key] / full[key]:.2f}']
        cells.append('' if row['adapter'] is None else f'{100 * row["adapter"]:.1f} %')
        lines.append('| ' + ' | '.join(cells) + ' |')
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--device', choices=['cuda', 'cpu'], default='cuda')
    add('--if-present', action='store_true', help='without a GPU, do not fail')
    add('--networks', nargs='+', choices=NETWORKS, help='default: by device')
    add('--size', type=int, help='image size in pixels; default: 512, on a CPU 224')
    add('--batch', type=int, help='pairs per step; default: 8, on a CPU 2')
    add('--rounds', type=int, default=5)
    add('--out', type=Path, help='page to write')
    add('--json', type=Path, default=Path('work_dirs/benchmark/ivtuning.json'))
    args = parser.parse_args(arguments)
    on_gpu = args.device == 'cuda'
    by_device = list(NETWORKS)[1:] if on_gpu else list(NETWORKS)[:1]
    args.networks = args.networks or by_device
    args.size = args.size or (512 if on_gpu else 224)
    args.batch = args.batch or (8 if on_gpu else 2)
    args.precision = 'fp32'
    if on_gpu and torch.cuda.is_available() and has_bfloat16('cuda'):
        args.precision = 'bf16'
    return args


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print and write; return the results, empty without a GPU."""
    args = parse(arguments)
    if args.device == 'cuda' and not torch.cuda.is_available():
        text = 'torch sees no CUDA GPU: nothing was measured'
        if not args.if_present:
            sys.exit(f'error: {text}. --device cpu measures a small network.')
        print(f'skipped: {text}.')
        return {}
    keep_memory()
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
