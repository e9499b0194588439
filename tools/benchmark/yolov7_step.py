"""Profile a YOLOv7 training step, from reading images to the optimizer.

Uses the config as shipped: data, augmentation, assignment, losses, optimizer. Data is
loaded in this process to show its share; in real training, workers load it in parallel.
Without --data-root the images are synthetic street scenes.

    python tools/benchmark/yolov7_step.py --size 320 --batch 8
    python tools/benchmark/yolov7_step.py --config configs/tensorfact/yolo_rgb.py
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import torch
from _parts import Stopwatch, WaitCounter
from _timing import clock_for, environment
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import nn

from mmir.cli import cli
from mmir.cli.config import apply_options
from mmir.cli.stages import ROOT
from mmir.testing.rescale import set_image_scale
from mmir.testing.scenes import write_flir
from mmir.utils.files import write_json

DATA = 'data: '
ASSIGN = ('_candidates', '_cheapest')


def street_scenes(cfg: Config, folder: str, images: int) -> None:
    """Make a config train on synthetic street scenes, written to `folder`."""
    kind = 'rgb' if cfg.get('demo', {}).get('modality') == 'rgb' else 'thermal'
    write_flir(folder, train=images, val=1, sixteen_bit=False, progress=False)
    cfg.train_dataloader.dataset.dataset.update(
        data_root=folder,
        ann_file=f'train/{kind}_annotations.json',
        data_prefix=dict(img='train/'),
    )


def build(cfg: Config, device: str) -> tuple[nn.Module, OptimWrapper, Any]:
    """Build the model, optimizer and data loader (in this process) of a config."""
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.dataset.pop('subset', None)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    model = MODELS.build(cfg.model).to(device).train()
    return model, build_optim_wrapper(model, cfg.optim_wrapper), loader


def watch_step(watch: Stopwatch, model: nn.Module, optim: OptimWrapper) -> None:
    """Time the parts of `train_step` of a YOLOv7."""
    head = model.bbox_head
    watch.watch(model.data_preprocessor, 'forward', 'preprocess')
    watch.watch(model.backbone, 'forward', 'backbone')
    watch.watch(model.neck, 'forward', 'neck')
    watch.watch(head.head_module, 'forward', 'head layers')
    watch.watch(head, 'loss_by_feat', 'losses')
    watch.watch(head.assigner, 'assign', 'assign: rest')
    for method in ASSIGN:
        if hasattr(head.assigner, method):
            watch.watch(head.assigner, method, f'assign: {method.strip("_")}')
    watch.watch(optim, 'backward', 'backward')
    watch.watch(optim, 'step', 'optimizer')


def watch_data(watch: Stopwatch, dataset: Any) -> None:
    """Time every transform of a dataset and of the one it wraps."""
    inner = getattr(dataset, 'dataset', None)
    pipeline = dataset.pipeline
    for transform in getattr(pipeline, 'transforms', pipeline):
        watch.watch(transform, 'transform', DATA + type(transform).__name__)
    if inner is not None:
        watch.watch(inner, 'prepare_data', DATA + 'annotations')
        watch_data(watch, inner)


def run_steps(
    model: nn.Module, optim: OptimWrapper, batches: Iterator, watch: Stopwatch, n: int
) -> None:
    """Train `n` steps."""
    for _ in range(n):
        with watch.part(DATA + 'copies, collation'):
            batch = next(batches)
        with watch.part('rest'):
            model.train_step(batch, optim)


def shares(watch: Stopwatch, steps: int) -> list[dict[str, Any]]:
    """Milliseconds per step and share of each part; data parts come last.

    All shares, including those of data parts, are relative to the step without data: a
    total of 1 for data means that one worker is just fast enough.
    """
    step = sum(s for name, s in watch.seconds.items() if not name.startswith(DATA))
    rows = [
        dict(
            part=name,
            ms=1e3 * seconds / steps,
            share=seconds / step,
            calls=watch.calls[name] / steps,
        )
        for name, seconds in watch.seconds.items()
    ]
    return sorted(rows, key=lambda r: (r['part'].startswith(DATA), -r['ms']))


def table(rows: Sequence[dict[str, Any]], waits: Sequence[dict[str, Any]]) -> str:
    """Markdown tables of the parts and of the waits."""
    lines = ['| part | ms per step | of the step | calls |', '|---|---|---|---|']
    for r in rows:
        lines.append(
            f'| {r["part"]} | {r["ms"]:.1f} | {r["share"]:.1%} | {r["calls"]:g} |'
        )
    totals = [
        (name, [r for r in rows if r['part'].startswith(DATA) is loads])
        for name, loads in (('**step**', False), ('**data**', True))
    ]
    for name, some in totals:
        ms, share = (sum(r[k] for r in some) for k in ('ms', 'share'))
        lines.append(f'| {name} | {ms:.1f} | {share:.1%} | |')
    lines += [
        '',
        '| the host would wait for a GPU | line | times per step |',
        '|---|---|---|',
    ]
    lines += [f'| {w["reason"]} | {w["where"]} | {w["times"]} |' for w in waits]
    return '\n'.join(lines)


def count_waits(step: Callable[[], object]) -> list[dict[str, Any]]:
    """Lines where the host would wait for a GPU in a step, most frequent first."""
    with WaitCounter() as counter:
        step()
    return [
        dict(reason=reason, where=where, times=times)
        for (reason, where), times in counter.found.most_common()
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    default = ROOT / 'configs/tensorfact/yolo-tiny_flir_1pct.py'
    add('--config', default=str(default), help=cli.CONFIG_HELP)
    add('--data-root', help='folder of the training data, as in the config')
    cli.add_cfg_options(parser)
    add('--size', type=int, default=640, help='image size in pixels')
    add('--batch', type=int, default=8)
    add('--steps', type=int, default=8)
    add('--images', type=int, default=16, help='number of synthetic images')
    add('--threads', type=int, default=1)
    add('--device', choices=['cpu', 'cuda'], default='cpu')
    add('--out', type=Path, default=Path('work_dirs/benchmark/yolov7_step.json'))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print and write a JSON file; return the results."""
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    set_random_seed(0)
    cfg = cli.load_config(args.config)
    init_default_scope(cfg.default_scope)
    set_image_scale(cfg, (args.size, args.size))
    cfg.train_dataloader.batch_size = args.batch
    with tempfile.TemporaryDirectory() as folder:
        if args.data_root:
            cfg.train_dataloader.dataset.dataset.data_root = args.data_root
        else:
            street_scenes(cfg, str(Path(folder) / 'street'), args.images)
        apply_options(cfg, args.cfg_options)
        model, optim, loader = build(cfg, args.device)
        batches = chain.from_iterable(repeat(loader))
        watch = Stopwatch(clock_for(args.device, args.threads))
        run_steps(model, optim, batches, watch, 2)
        batch = next(batches)
        boxes = sum(len(s.gt_instances) for s in batch['data_samples'])
        waits = count_waits(lambda: model.train_step(batch, optim))
        watch_step(watch, model, optim)
        watch_data(watch, loader.dataset)
        run_steps(model, optim, batches, watch, 1)
        watch.reset()
        run_steps(model, optim, batches, watch, args.steps)
    options = {k: v for k, v in vars(args).items() if k not in ('out', 'device')}
    result = dict(
        environment=environment(args.device, **options),
        boxes=boxes,
        parts=shares(watch, args.steps),
        waits=waits,
    )
    write_json(result, args.out, indent=1)
    print(table(result['parts'], waits))
    print(f'\n{boxes} boxes in {args.batch} images of {args.size} px')
    return result


if __name__ == '__main__':
    sys.exit(cli.run(main))
