"""Latency of light networks in onnxruntime, against ResNet-50.

Exports the networks with random weights for infrared images of 288x144 and runs them
with a batch of 1 on one thread, in float32, in int8 with the first convolutions in
float32, and in int8 throughout. Latencies do not depend on the weights. Prints a
Markdown table and writes the numbers to `--out`.

    python tools/benchmark/toplight.py
    python tools/benchmark/toplight.py --configs plain_mbv3s_sysu --rounds 3
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from _timing import environment, summarize, take_turns
from mmengine.config import Config

from mmir.cli import cli
from mmir.evaluation.tables import markdown
from mmir.utils.files import write_json

FOLDER = Path(__file__).resolve().parents[2] / 'configs/toplight'
BASELINE = 'plain_r50_sysu'
CONFIGS = (
    'plain_mbv3l_sysu',
    'toplight_mbv3l_sysu',
    'toplight_mbv3s_sysu',
    'toplight_shuffle15_sysu',
    'toplight_shuffle10_sysu',
)
CALIBRATION = 8  # images; ranges do not change latencies


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--configs', nargs='+', default=CONFIGS, help='names in configs/toplight'
    )
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--shape', nargs=2, type=int, default=(288, 144))
    parser.add_argument('--out', default='work_dirs/benchmark_toplight.json')
    args = parser.parse_args(argv)
    if args.rounds < 1 or min(args.shape) < 32:
        raise cli.UserError('--rounds must be at least 1, --shape at least 32 each')
    names = [BASELINE, *(name for name in args.configs if name != BASELINE)]
    if gone := [name for name in names if not (FOLDER / f'{name}.py').is_file()]:
        raise cli.UserError(f'no config {gone} in {FOLDER}')
    torch.set_num_threads(1)
    costs, files, calls = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            costs[name], made = export(name, Path(folder), tuple(args.shape))
            for kind, path in made.items():
                files[f'{name} {kind}'] = path.stat().st_size
                calls[f'{name} {kind}'] = caller(path, tuple(args.shape))
        times = take_turns(calls, args.rounds, time.perf_counter)
    found = summarize(times, f'{BASELINE} float32')
    rows = []
    for key, row in found.items():
        name, kind = key.split(' ', 1)
        low, mid, high = row['ms']
        rows.append(
            [
                name,
                kind,
                f'{costs[name] / 1e6:.0f}',
                f'{files[key] / 2**20:.1f}',
                f'{mid:.2f} ({low:.2f} to {high:.2f})',
                f'{1 / row["ratio"][1]:.2f}',
            ]
        )
    head = ('network', 'type', 'MACs, M', 'MiB', 'ms (quartiles)', 'times ResNet-50')
    print(markdown(head, rows))
    where = environment('cpu', threads=1, rounds=args.rounds, shape=args.shape)
    write_json(dict(environment=where, rows=found, bytes=files, macs=costs), args.out)


def export(
    name: str, folder: Path, size: tuple[int, int]
) -> tuple[int, dict[str, Path]]:
    """Export a network; returns its multiply-adds, and a file for each type."""
    from _toplight_int8 import INT8
    from mmengine.registry import MODELS, init_default_scope

    from mmir.reid import vireid_cost
    from mmir.reid.onnx_export import export_onnx, quantize_onnx, random_images

    cfg = Config.fromfile(FOLDER / f'{name}.py')
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    files = {kind: folder / f'{name}_{kind}.onnx' for kind in ('float32', *INT8)}
    export_onnx(model, files['float32'], 'ir', size)
    for kind, skip in INT8.items():
        images = random_images(CALIBRATION, size)
        quantize_onnx(files['float32'], files[kind], images, skip)
    return vireid_cost(model, *size).image, files


def caller(path: Path, size: tuple[int, int]) -> partial:
    """A run of an exported network on an image."""
    from mmir.reid.onnx_export import random_images, session_of

    session = session_of(path)
    return partial(session.run, None, {'images': random_images(1, size)[0]})


if __name__ == '__main__':
    sys.exit(cli.run(main))
