"""IV-tuning and its baselines on real pairs, from CLIP ViT-B/16.

Tasks: classification of object crops, segmentation of a field, detection in streets.
Each row's learning rate (and start) is chosen on held-out training images; then all
rows run on the test images. Several processes may run at once: each takes what no other
has taken. Finished runs are skipped. `ivtuning_study_report.py` writes the tables.

    python tools/benchmark/ivtuning_study.py crops field street --data FOLDER \\
        --weights FOLDER
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _clip_crops
import _clip_tasks
import torch
from _clip_rows import HEAD_RATE, ROWS, backbone, model_config, rates_by_name
from _clip_spectra import effective_ranks
from _runs import RESULT, drain
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import LOOPS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from mmir.adapters import save_adapter
from mmir.cli import cli
from mmir.engine.autocast import has_bfloat16
from mmir.utils.files import write_json

RUNNERS = dict(field=_clip_tasks.field, street=_clip_tasks.street)
TASKS = ('crops', *RUNNERS)
SEARCH_SEEDS = (100,)
CORRUPTED = 'full', 'lora', 'ivt', 'ivt_ir'  # rows tested on corrupted images
STRENGTHS = (3,)
ANALYZED = 'rgb', 'full_rgb', 'full', 'frozen', 'lora', 'ivt', 'ivt_mp', 'ivt_ir'


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        task, row: Names in `TASKS` and `ROWS`.
        rate: Learning rate of the backbone.
        choice: Arguments of the method.
        seed: Controls all randomness; in `crops` also the training crops.
        held: Whether held-out training images take the place of the test images.
    """

    task: str
    row: str
    rate: float
    choice: tuple[tuple[str, Any], ...]
    seed: int
    held: bool

    def folder(self, out: Path) -> Path:
        """Folder of the run."""
        text = '_'.join(f'{k}={v}' for k, v in self.choice)
        name = '_'.join(filter(None, [self.row, f'{self.rate:g}', text]))
        part = 'held_out' if self.held else 'test'
        return out / self.task / part / f'{name}_seed{self.seed}'


def run_config(run: Run, args: argparse.Namespace) -> tuple[Config, str]:
    """Config of a run for `Runner.from_cfg`, and the name of its metric."""
    row, out = ROWS[run.row], args.out / run.task
    parts = RUNNERS[run.task](args.data, out, run.held)
    plain = backbone(args.weights, out_type='featmap')
    model = model_config(row, dict(run.choice), parts.model, plain, parts.heads)
    steps = args.steps or parts.steps
    warm_up = max(1, steps // 20)
    loader = dict(num_workers=0, persistent_workers=False)
    test_loader = dict(
        loader,
        batch_size=4,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=parts.test,
    )
    rates = rates_by_name(run.row, run.rate)
    factors = {k: dict(lr_mult=v / HEAD_RATE) for k, v in rates.items()}
    # for mmengine's loops that is bfloat16 on a CPU
    fast = dict(fp16=get_device() == 'cpu' and has_bfloat16('cpu'))
    return Config(
        dict(
            default_scope=parts.scope,
            model=model,
            work_dir=str(run.folder(args.out)),
            train_dataloader=dict(
                loader,
                batch_size=args.batch or parts.batch,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                dataset=parts.train,
            ),
            val_dataloader=test_loader,
            val_evaluator=parts.evaluator,
            test_dataloader=test_loader,
            test_evaluator=parts.evaluator,
            train_cfg=dict(
                type='IterBasedTrainLoop', max_iters=steps, val_begin=steps + 1
            ),
            val_cfg=fast,
            test_cfg=dict(
                fast, type='mmir.MissingModalityTestLoop', metrics=[parts.metric]
            ),
            optim_wrapper=dict(
                type='mmir.AutocastOptimWrapper',
                constructor='mmir.CompleteOptimWrapperConstructor',
                paramwise_cfg=dict(custom_keys=factors),
                optimizer=dict(type='AdamW', lr=HEAD_RATE, weight_decay=0.05),
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=warm_up),
                dict(
                    type='CosineAnnealingLR',
                    by_epoch=False,
                    begin=warm_up,
                    T_max=steps - warm_up,
                    eta_min_ratio=0.01,
                ),
            ],
            default_hooks=dict(
                checkpoint=None,
                non_finite=dict(type='mmir.NonFiniteLossHook', action='stop'),
                random_state=dict(type='mmir.RandomStateHook'),
            ),
            log_processor=dict(by_epoch=False),
            log_level='WARNING',
            randomness=dict(seed=run.seed),
            experiment_name=str(run.folder(args.out)).replace('/', '_'),
        )
    ), parts.metric


def train(run: Run, args: argparse.Namespace) -> tuple[nn.Module, dict]:
    """Train and test a run with a host's runner; returns model and measured values."""
    cfg, metric = run_config(run, args)
    init_default_scope(cfg.default_scope)
    runner = Runner.from_cfg(cfg)
    _clip_tasks.keep_boxes_precise_(runner.model)
    runner.train()
    if run.held:
        values = {k: _plain(v) for k, v in runner.val_loop.run().items()}
        return runner.model, dict(score=values.get(metric, 0.0), values=values)
    subsets = by_variant(runner.test(), metric)
    result = dict(score=subsets['rgb+ir'], subsets=subsets)
    if args.corruptions and run.row in CORRUPTED:
        corruptions = LOOPS.build(
            dict(
                type='mmir.CorruptionTestLoop',
                strengths=STRENGTHS,
                metrics=[metric],
                fp16=runner.test_loop.fp16,
            ),
            default_args=dict(
                runner=runner,
                dataloader=runner.test_dataloader,
                evaluator=runner.test_evaluator,
            ),
        )
        result['corruptions'] = by_variant(corruptions.run(), metric)
    if run.row in ANALYZED:
        result['effective_rank'] = effective_ranks(runner)
    return runner.model, result


def by_variant(values: dict, metric: str) -> dict[str, float]:
    """Take one metric from the results of a test loop with variants."""
    ending = f'/{metric}'
    return {
        name.removesuffix(ending): _plain(value)
        for name, value in values.items()
        if name.endswith(ending)
    }


def execute(run: Run, args: argparse.Namespace) -> None:
    """Train, test, and write the result."""
    begin = time.monotonic()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    if run.task == 'crops':
        row, folders = ROWS[run.row], (args.data, args.weights)
        rates = rates_by_name(run.row, run.rate)
        model, values = _clip_crops.run(
            row, dict(run.choice), rates, run.seed, run.held, folders
        )
    else:
        model, values = train(run, args)
    parameters = list(model.parameters())
    folder = run.folder(args.out)
    result = dict(
        settings=asdict(run) | dict(choice=dict(run.choice)),
        seconds=round(time.monotonic() - begin, 1),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        parameters=sum(p.numel() for p in parameters),
        adapter_bytes=adapter_bytes(model, folder),
        memory=torch.cuda.max_memory_allocated() if on_gpu else None,
        device=torch.cuda.get_device_name() if on_gpu else 'CPU',
        **values,
    )
    write_json(result, folder / RESULT)


def adapter_bytes(model: nn.Module, folder: Path) -> int:
    """Size of the file of what trained."""
    path = folder / 'adapter.pth'
    try:
        save_adapter(model, path)
    except ValueError:  # not adapted: what trains is stored in single precision
        return 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    size = path.stat().st_size
    path.unlink()
    return size


def work(args: argparse.Namespace) -> None:
    """Do all runs that no other process does; return when all are done.

    A test run can begin when the search of its row is complete.
    """
    search = [run for task in args.tasks for run in search_runs(task, args.rows)]
    order = list(itertools.product(args.seeds, args.tasks, args.rows))

    def ready() -> list[Run]:
        tests = [
            Run(task, name, *best, seed, held=False)
            for seed, task, name in order
            if (best := chosen(task, name, args.out)) is not None
        ]
        return [*search, *tests]

    drain(
        ready,
        len(search) + len(order),
        lambda run: run.folder(args.out),
        lambda run: execute(run, args),
    )


def search_runs(task: str, names: Sequence[str]) -> list[Run]:
    """Runs that choose the rate and the start of each row."""
    runs = []
    for seed, name in itertools.product(SEARCH_SEEDS, names):
        grid = ROWS[name].grid(task)
        if len(grid) > 1:
            runs += [Run(task, name, rate, c, seed, held=True) for rate, c in grid]
    return runs


def chosen(task: str, name: str, out: Path) -> tuple[float, tuple] | None:
    """Rate and arguments with the best score on held-out training images.

    Returns:
        None if the search is not complete.
    """
    scores: dict[tuple, list[float]] = {}
    for run in search_runs(task, [name]):
        path = run.folder(out) / RESULT
        if not path.is_file():
            return None
        score = json.loads(path.read_text())['score']
        scores.setdefault((run.rate, run.choice), []).append(score)
    if not scores:
        return ROWS[name].grid(task)[0]
    return max(scores, key=lambda key: statistics.mean(scores[key]))


def _plain(value: Any) -> float:
    return float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('tasks', nargs='+', choices=TASKS)
    parser.add_argument('--data', type=Path, required=True, help='real images')
    parser.add_argument('--weights', type=Path, required=True, help='of CLIP')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/ivtuning'))
    parser.add_argument('--rows', nargs='+', choices=ROWS, default=[*ROWS])
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--steps', type=int, help='shorter runs, to try things out')
    parser.add_argument('--corruptions', action='store_true', help='test them, too')
    parser.add_argument('--batch', type=int, help='pairs per step')
    args = parser.parse_args()
    for path in ('data', 'weights', 'out'):
        setattr(args, path, getattr(args, path).resolve())
    args.out.mkdir(parents=True, exist_ok=True)
    work(args)


if __name__ == '__main__':
    sys.exit(cli.run(main))
