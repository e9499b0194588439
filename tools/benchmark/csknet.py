"""Cost of CSK-Net beside the plain network: parameters, FLOPs, latency, memory.

Each mode (both modalities, or one of them) is measured in turns with the plain
segmentor of one modality, DeepLabV3+ with nine classes. Weights and images are random.
FLOPs are counted by `torch.utils.flop_counter.FlopCounterMode` on the meta device, also
for networks that are too large to time here. Prints Markdown and writes JSON; `make
gpu` runs it.

    python tools/benchmark/csknet.py --out docs/results/csknet_cost.md
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _timing import (
    NO_GPU,
    clock_for,
    driver,
    environment,
    keep_memory,
    peak_memory,
    summarize,
    take_turns,
)
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mmir  # noqa: F401  the hosts need it before they load
from mmir.cli import cli
from mmir.utils.files import write_json, write_text

Row = dict[str, Any]
PAIR = 'rgb', 'ir'
MODES = {'rgb + ir': PAIR, 'ir alone': ('ir',), 'rgb alone': ('rgb',)}
PLAIN = 'plain network'
CLASSES = 9
BN = dict(type='BN')


@dataclass(frozen=True)
class Network:
    """A DeepLabV3+.

    Attributes:
        name: Name in the tables.
        backbone: Config of the backbone.
        decoder: Keys of the decode head that depend on the backbone.
        count: Height and width at which FLOPs are counted.
    """

    name: str
    backbone: dict[str, Any]
    decoder: dict[str, Any] = field(default_factory=dict)
    count: tuple[int, int] = (512, 512)


RESNET = dict(type='ResNetV1c', depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
MOBILENET = dict(
    type='MobileNetV2',
    strides=(1, 2, 2, 1, 1, 1, 1),
    dilations=(1, 1, 1, 2, 2, 4, 4),
    out_indices=(1, 2, 4, 6),
)
NETWORKS = dict(
    r50=Network(
        'DeepLabV3+ R50-D8',
        RESNET,
        dict(in_channels=2048, c1_in_channels=256, c1_channels=48),
    ),
    mobilenet=Network(
        'DeepLabV3+ MobileNetV2-D8',
        MOBILENET,
        dict(in_channels=320, c1_in_channels=24, c1_channels=48),
    ),
    tiny=Network(
        'tiny DeepLabV3+',
        dict(RESNET, base_channels=4, stem_channels=4),
        dict(in_channels=128, c1_in_channels=16, c1_channels=4, channels=8),
        (64, 96),
    ),
)


def build(network: Network, csknet: bool) -> nn.Module:
    """Build the plain network, or CSK-Net around it, in evaluation mode."""
    decoder = dict(
        type='DepthwiseSeparableASPPHead',
        in_index=3,
        channels=512,
        dilations=(1, 12, 24, 36),
        dropout_ratio=0.1,
        num_classes=CLASSES,
        norm_cfg=BN,
        align_corners=False,
    )
    decoder |= network.decoder
    cfg: dict[str, Any] = dict(
        type='EncoderDecoder',
        backbone=dict(network.backbone, norm_cfg=BN),
        decode_head=decoder,
        test_cfg=dict(mode='whole'),
    )
    if csknet:
        cfg |= dict(
            type='mmir.CSKNet',
            data_preprocessor=dict(
                type='mmir.PairedSegDataPreprocessor',
                modalities={name: dict(channels=3) for name in PAIR},
            ),
            decode_head=dict(type='mmir.CSKHead', decoder=decoder),
            shared=dict(channel_exchange=dict(mode='quantile'), spatial_exchange={}),
        )
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(cfg).eval()


def calls_of(
    network: Network, size: tuple[int, int], device: str
) -> dict[str, Callable[[], Any]]:
    """Calls of the plain network and of each mode on one image or pair."""
    with torch.device(device):
        plain, csknet = build(network, False), build(network, True)
        pair = torch.rand(1, 6, *size)
    calls = {PLAIN: partial(_call, plain, pair[:, :3].contiguous(), None)}
    for mode, names in MODES.items():
        calls[mode] = partial(_call, csknet, pair, names)
    return calls


@torch.no_grad()
def _call(model: nn.Module, x: torch.Tensor, names: Sequence[str] | None) -> Any:
    if names is not None:
        model.test_cfg.modalities = names
    return model(x, mode='tensor')


def counts(network: Network, size: tuple[int, int]) -> dict[str, Row]:
    """Parameters that each mode uses, and its FLOPs, counted without weights."""
    found = {}
    for mode, call in calls_of(network, size, 'meta').items():
        with FlopCounterMode(display=False) as counter:
            call()
        found[mode] = dict(
            parameters=_used(call.args[0], MODES.get(mode)),
            flops=counter.get_total_flops(),
        )
    return found


def _used(model: nn.Module, names: Sequence[str] | None) -> int:
    """Parameters of a network, for some modalities: without what others need."""
    left_out: list[nn.Module] = []
    if names is not None and len(names) < len(PAIR):
        left_out = [model.decode_head.fusion, model.decode_head.conv_seg]
        for module in model.modules():
            for kind in ('copies', 'decoders'):
                own = getattr(module, kind, {})
                left_out += [own[name] for name in own if name not in names]
    skipped = {id(p) for module in left_out for p in module.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in skipped)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Count for all networks; time and weigh those that are asked for."""
    tables = []
    for key in args.networks:
        network = NETWORKS[key]
        table = dict(network=network.name, count_size=network.count)
        rows = counts(network, network.count)
        if key == args.timed:
            table |= dict(size=args.size)
            calls = calls_of(network, args.size, args.device)
            clock = clock_for(args.device, args.threads)
            times = take_turns(calls, args.rounds, clock, args.span)
            stats = summarize(times, PLAIN)
            for mode, call in calls.items():
                rows[mode] |= dict(
                    ms=stats[mode]['ms'][1],
                    ratio=stats[mode]['ratio'][1],
                    memory=peak_memory(call, args.device),
                )
        tables.append(dict(table, rows=rows))
    where = dict(driver=driver(), cuda=torch.version.cuda, threads=args.threads)
    return dict(
        environment=environment(args.device, **where),
        on_gpu=args.device == 'cuda',
        tables=tables,
    )


def page(result: dict[str, Any]) -> str:
    """Format the measurements as a Markdown page."""
    env = result['environment']
    place = f'driver {env["driver"] or "unknown"}'
    if not result['on_gpu']:
        place = f'{env["threads"]} thread{"s"[: env["threads"] > 1]}'
    lines = [
        '# Cost of CSK-Net',
        '',
        f'{env["device"]}, {place}, torch {env["torch"]}, Python {env["python"]}. '
        f'{CLASSES} classes, one image or pair, float32, random weights; medians.',
        'Parameters are those that a mode uses. A FLOP is an addition or a '
        'multiplication, in convolutions. Memory is the peak of a call, without the',
        'weights. Ratios are to the plain network of one camera, measured in turns.',
        '',
        '```bash',
        'python tools/benchmark/csknet.py --out docs/results/csknet_cost.md',
        '```',
    ]
    for table in result['tables']:
        lines += ['', f'## {table["network"]}', '', *_table(table)]
    return '\n'.join(lines) + '\n'


def _table(table: dict[str, Any]) -> list[str]:
    height, width = table['count_size']
    head = f'| mode | parameters | GFLOPs at {height}x{width} | ratio |'
    rule = '|---|---|---|---|'
    if timed := 'size' in table:
        height, width = table['size']
        head += f' ms at {height}x{width} | ratio | memory MB |'
        rule += '---|---|---|'
    lines, base = [head, rule], table['rows'][PLAIN]
    for mode, row in table['rows'].items():
        line = f'| {mode} | {row["parameters"]:,} | {row["flops"] / 1e9:.3f} '
        line += f'| {row["flops"] / base["flops"]:.2f} |'
        if timed:
            line += f' {row["ms"]:.1f} | {row["ratio"]:.2f} '
            line += f'| {row["memory"] / 1e6:.1f} |'
        lines.append(line)
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; the defaults depend on the device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    add('--device', choices=['cuda', 'cpu'], default=default)
    add('--if-present', action='store_true', help='without a GPU, measure nothing')
    add('--networks', nargs='+', choices=NETWORKS, default=['r50', 'mobilenet'])
    add('--timed', choices=NETWORKS, help='default: r50 on a GPU, else mobilenet')
    add('--size', nargs=2, type=int, help='height and width to time at')
    add('--rounds', type=int, default=11, help='times that everything is timed')
    add('--threads', type=int, default=1, help='threads on a CPU')
    add('--out', type=Path, help='page to write; the JSON file lies beside it')
    args = parser.parse_args(arguments)
    gpu = args.device == 'cuda'
    args.timed = args.timed or ('r50' if gpu else 'mobilenet')
    args.size = tuple(args.size or ((480, 640) if gpu else (320, 320)))
    args.span = 0.1 if gpu else 0.0
    return args


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print and write; return the results, empty without a wanted GPU."""
    args = parse(arguments)
    if not torch.cuda.is_available() and (args.if_present or args.device == 'cuda'):
        if not args.if_present:
            sys.exit(f'error: {NO_GPU}.')
        print(f'skipped: {NO_GPU}.')
        return {}
    import mmir.seg  # noqa: F401 registers the networks

    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    result = measure(args)
    text = page(result)
    print(text)
    out = args.out or Path('work_dirs/benchmark/csknet_cost.md')
    write_json(result, out.with_suffix('.json'), indent=1)
    if args.out:
        write_text(text, args.out)
    return result


if __name__ == '__main__':
    sys.exit(cli.run(main))
