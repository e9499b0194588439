"""Cost of PedMix, against a training step of a ResNet-50 on the same batch.

Times what PedMix adds to the data preprocessor, the preprocessor without it, and the
training step of a config (forward, backward, optimizer), all in one run. Images are
random.

    python tools/benchmark/pedmix_cost.py
    python tools/benchmark/pedmix_cost.py --batch 8 --rounds 1  # a small run
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _timing import clock_for, environment, keep_memory, summarize, take_turns
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmir.cli import cli
from mmir.cli.stages import ROOT
from mmir.utils.errors import UserError
from mmir.utils.files import write_json

CONFIG = ROOT / 'configs/agw/agw_r50_sysu.py'
PEDMIX = ROOT / 'configs/tmpa/tmpa_r50_sysu.py'
TARGET = 0.03


def batch_of(args: argparse.Namespace) -> dict[str, list]:
    """Random pairs as a loader gives them: RGB images, then infrared ones.

    Raises:
        UserError: The batch cannot be split into four images of each modality and
            identity.
    """
    from mmpretrain.structures import DataSample

    pairs = args.batch // 2
    if args.batch % 8:
        raise UserError(f'--batch {args.batch}: must be a multiple of 8')
    generator = torch.Generator().manual_seed(0)
    shape = (3, args.height, args.width)
    options = dict(dtype=torch.uint8, generator=generator)
    images = [torch.randint(256, shape, **options) for _ in range(args.batch)]
    samples = [
        DataSample(metainfo=dict(modality=modality)).set_gt_label(pair // 4)
        for modality in ('rgb', 'ir')
        for pair in range(pairs)
    ]
    return dict(inputs=images, data_samples=samples)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time the three in turns."""
    cfg = cli.load_config(str(args.config))
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    cfg.model.backbone.backbone.init_cfg = None  # the weights do not change the time
    model = MODELS.build(cfg.model).to(args.device).train()
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    plain = model.data_preprocessor
    mixing = dict(cli.load_config(str(PEDMIX)).model.data_preprocessor)
    mixed = MODELS.build(mixing).to(args.device)
    batch = batch_of(args)
    ready = plain(batch, True)

    def step() -> None:
        loss, _ = model.parse_losses(model(**ready, mode='loss'))
        optim.update_params(loss)

    calls = {
        'PedMix': lambda: mixed.mix(ready),
        'preprocessor without it': lambda: plain(batch, True),
        'training step': step,
    }
    clock = clock_for(args.device, args.threads)
    times = take_turns(calls, args.rounds, clock, min_seconds=1.0)
    found = summarize(times, 'training step')
    seconds = {name: found[name]['ms'][1] / 1e3 for name in calls}
    return dict(seconds=seconds, share=found['PedMix']['ratio'][1])


def table(result: dict[str, Any]) -> str:
    """Markdown table of the measurement."""
    rows = [f'| {k} | {v:.4f} |' for k, v in result['seconds'].items()]
    share, verdict = result['share'], 'below' if result['share'] < TARGET else 'above'
    return '\n'.join(
        [
            '| per batch | seconds |',
            '|---|---:|',
            *rows,
            '',
            f'PedMix takes {100 * share:.3f} % of a training step, {verdict} the '
            f'target of {100 * TARGET:.0f} %',
        ]
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--config', type=Path, default=CONFIG, help='config of the training step')
    add('--batch', type=int, default=64, help='images of both modalities')
    add('--height', type=int, default=288)
    add('--width', type=int, default=144)
    add('--rounds', type=int, default=3)
    add('--threads', type=int, default=1)
    add('--device', choices=('cpu', 'cuda'), default='cpu')
    add('--out', type=Path, default=Path('work_dirs/benchmark/pedmix_cost.json'))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print the table and write the JSON file; return the results."""
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    keep_memory()
    result = measure(args)
    names = 'batch', 'height', 'width', 'rounds', 'threads'
    options = {name: getattr(args, name) for name in names}
    result['environment'] = environment(args.device, **options)
    write_json(result, args.out, indent=1)
    print(table(result))
    return result


if __name__ == '__main__':
    sys.exit(cli.run(main))
