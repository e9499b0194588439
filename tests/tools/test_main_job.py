"""The main job at toy scale: train, interrupt, resume, load the adapter, merge."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.config import Config

from mmir.adapters import merge_checkpoint
from mmir.testing import shrink
from mmir.testing.rescale import set_schedule
from mmir.testing.scenes import write_flir

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs/tensorfact'


def tool(name: str, *arguments: object) -> str:
    """Run a tool as a user would; returns its output."""
    command = [sys.executable, ROOT / 'tools' / name, *arguments]
    done = subprocess.run(
        [str(c) for c in command],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def toy(name: str, data: Path, path: Path, epochs: int, load_from: Path | None) -> Path:
    """Write a toy version of a shipped config: 64 px, 6 images, exact evaluation."""
    cfg = shrink(Config.fromfile(CONFIGS / name), (64, 64))
    kind = 'rgb' if cfg.demo.modality == 'rgb' else 'thermal'
    for dataset, split in (
        (cfg.train_dataloader.dataset.dataset, 'train'),
        (cfg.val_dataloader.dataset, 'val'),
        (cfg.test_dataloader.dataset, 'val'),
    ):
        dataset.update(
            data_root=str(data),
            ann_file=f'{split}/{kind}_annotations.json',
            data_prefix=dict(img=f'{split}/'),
        )
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].update(num_workers=0, persistent_workers=False)
    if 'subset' in cfg:
        cfg.train_dataloader.dataset.dataset.subset = dict(num=4, seed=0)
    set_schedule(cfg, epochs, batch_size=2)
    cfg.train_cfg.val_interval = cfg.default_hooks.checkpoint.interval = 1
    cfg.load_from = str(load_from) if load_from else None
    # toy detections are weak: keep enough of them to compare
    cfg.model.test_cfg.score_thr = 1e-5
    cfg.randomness = dict(seed=0)
    cfg.dump(path)
    return path


def predictions(config: Path, weights: Path, out: Path, *options: object) -> list:
    """Boxes, scores, labels `tools/test.py` finds; in this process, to save a start."""
    spec = importlib.util.spec_from_file_location('test_tool', ROOT / 'tools/test.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dump = out.with_suffix('.pkl')
    arguments = [config, weights, '--work-dir', out, '--out', dump, *options]
    module.main([str(a) for a in arguments])
    found = [image['pred_instances'] for image in mmengine.load(dump)]
    assert sum(len(image['scores']) for image in found) > 50
    return found


def same(a: list, b: list) -> bool:
    """Whether two sets of predictions are bitwise equal."""
    return all(
        x[key].equal(y[key])
        for x, y in zip(a, b, strict=True)
        for key in ('bboxes', 'scores', 'labels')
    )


@pytest.fixture(scope='module')
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train both stages; the infrared one is interrupted after its first epoch."""
    root = tmp_path_factory.mktemp('job')
    data = write_flir(root / 'data', train=6, val=3, size=(160, 128), progress=False)
    rgb = toy('yolo-tiny_rgb.py', data, root / 'rgb.py', 1, None)
    tool('train.py', rgb, '--work-dir', root / 'rgb')
    start = root / 'rgb/epoch_1.pth'
    ir = toy('yolo-tiny_flir_1pct.py', data, root / 'ir.py', 2, start)
    stop = 'train_cfg.max_epochs=1'
    tool('train.py', ir, '--work-dir', root / 'ir', '--cfg-options', stop)
    assert not (root / 'ir/epoch_2.pth').exists()
    out = tool('train.py', ir, '--work-dir', root / 'ir', '--resume')
    assert 'resumed epoch: 1' in out
    toy('yolo-tiny_flir_1pct_full.py', data, root / 'full.py', 1, None)
    return root


def test_adapter_on_the_rgb_model_detects_the_same(job: Path) -> None:
    rgb, adapter = job / 'rgb/epoch_1.pth', ('--adapter', job / 'ir/adapter.pth')
    whole = predictions(job / 'ir.py', job / 'ir/epoch_2.pth', job / 'test_whole')
    on_rgb = predictions(job / 'ir.py', rgb, job / 'test_adapter', *adapter)
    merged = predictions(job / 'ir.py', rgb, job / 'test_merge', *adapter, '--merge')
    assert same(on_rgb, whole)
    assert same(merged, whole)


def test_merged_checkpoint_is_the_dense_network(job: Path) -> None:
    merge_checkpoint(job / 'ir/epoch_2.pth', job / 'merged.pth')
    dense = predictions(job / 'full.py', job / 'merged.pth', job / 'test_dense')
    whole = predictions(job / 'ir.py', job / 'ir/epoch_2.pth', job / 'test_again')
    assert same(dense, whole)


def test_the_stage_changes_nothing_else(job: Path) -> None:
    before = torch.load(job / 'rgb/epoch_1.pth', weights_only=True)['state_dict']
    after = torch.load(job / 'ir/epoch_2.pth', weights_only=True)['state_dict']
    adapter = torch.load(job / 'ir/adapter.pth', weights_only=True)['state_dict']
    changed = {k for k in after if k not in before or not after[k].equal(before[k])}
    assert changed <= adapter.keys()
    assert any('.adapters.ir.A' in key for key in changed)
    for key, value in adapter.items():
        assert value.equal(after[key]), key
    small, large = (job / 'ir/adapter.pth').stat(), (job / 'ir/epoch_2.pth').stat()
    assert small.st_size < large.st_size / 10


def test_chosen_images_are_written(job: Path) -> None:
    written = json.loads((job / 'ir/subset_train.json').read_text())
    assert len(written['files']) == 4


@pytest.mark.slow
def test_two_ranks_train_the_stage(job: Path) -> None:
    """Frozen parts, empty ranks and hooks work with two processes (gloo)."""
    environment = dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1')
    done = subprocess.run(
        [ROOT / 'tools/dist_train.sh', job / 'ir.py', '2', '--work-dir', job / 'two'],
        env={**environment, 'PORT': '29611'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'world_size: 2' in done.stdout or 'Distributed training: True' in done.stdout
    before = torch.load(job / 'rgb/epoch_1.pth', weights_only=True)['state_dict']
    after = torch.load(job / 'two/epoch_2.pth', weights_only=True)['state_dict']
    frozen = [k for k in before if k.endswith('conv.weight') and 'head' not in k]
    assert frozen
    assert all(after[k].equal(before[k]) for k in frozen)
    learnt = [k for k in after if '.adapters.ir.A' in k]
    assert any(after[k].abs().sum() > 0 for k in learnt)
