"""Few-shot transfer study: common settings of its rows and their differences."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
DATA = Path('somewhere')


@pytest.fixture(scope='module')
def study() -> Iterator[ModuleType]:
    path = ROOT / 'tools/benchmark/tensorfact_transfer.py'
    sys.path.insert(0, str(path.parent))  # as for a script
    spec = importlib.util.spec_from_file_location('tensorfact_transfer', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(path.parent))
    sys.modules.pop('_coco_tasks', None)


@pytest.fixture(scope='module')
def configs(study: ModuleType) -> dict[str, Config]:
    task, rgb = study.TASKS['drone'], (Path('dense.pth'), Path('factors.pth'))
    return {
        method: study.ir_config(task, study.Run(method, 25, 1, 1e-3), DATA, rgb)
        for method in study.METHODS
    }


def test_rows_share_steps_images_and_augmentation(
    study: ModuleType, configs: dict[str, Config]
) -> None:
    ours = configs['tensorfact']
    images = ours.train_dataloader.dataset.dataset
    assert images.subset == dict(num=25, seed=1)
    assert images.data_root == 'somewhere/drone_ir'
    batches = -(-25 // study.BATCH_SIZE)
    assert abs(ours.train_cfg.max_epochs * batches - study.STEPS) <= batches / 2
    for cfg in configs.values():
        for key in ('train_cfg', 'param_scheduler', 'custom_hooks', 'randomness'):
            assert cfg[key] == ours[key]
        assert cfg.train_dataloader == ours.train_dataloader
        assert cfg.val_dataloader == ours.val_dataloader == ours.test_dataloader
        assert cfg.optim_wrapper == ours.optim_wrapper


def test_rows_differ_in_what_trains(configs: dict[str, Config]) -> None:
    adapt = {name: cfg.model.adapt for name, cfg in configs.items()}
    assert adapt['full'].type == adapt['scratch'].type == 'Full'
    assert adapt['frozen'].type == adapt['bn'].type == 'Frozen'
    assert adapt['frozen'].get('norm') is None  # the method's own: frozen, too
    assert adapt['bn'].norm == 'all'
    assert (adapt['lora'].type, adapt['lora'].rank) == ('ConvLoRA', 12)
    assert adapt['tensorfact_comp'].comp_loss.type == 'cos2'
    assert adapt['tensorfact'].delta.rank == 4
    assert adapt['tensorfact_no_rgb'].delta is None
    assert adapt['tensorfact_no_rgb'].rank == adapt['tensorfact'].rank
    without = {name for name, cfg in configs.items() if cfg.load_from is None}
    assert without == {'scratch', 'tensorfact_no_rgb'}
    factors = {k for k, cfg in configs.items() if cfg.load_from == 'factors.pth'}
    assert factors == {'tensorfact', 'tensorfact_rank1', 'tensorfact_comp'}


def test_held_out_images_are_of_the_training_set_and_apart(
    study: ModuleType, tmp_path: Path
) -> None:
    images = [dict(id=7 * i, file_name=f'{i}.png') for i in range(10)]
    boxes = [dict(id=i, image_id=7 * (i % 10), category_id=1) for i in range(25)]
    source = tmp_path / 'train.json'
    source.write_text(
        json.dumps(dict(images=images, annotations=boxes, categories=[dict(id=1)]))
    )
    fit, check = (json.loads(f.read_text()) for f in study.hold_out(source, tmp_path))
    assert [i['file_name'] for i in check['images']] == ['2.png', '5.png', '8.png']
    assert len(fit['images']) == 7
    for part in (fit, check):
        ids = {image['id'] for image in part['images']}
        assert part['annotations'] == [b for b in boxes if b['image_id'] in ids]
        assert part['categories'] == [dict(id=1)]


def test_folders_of_runs_tell_them_apart(study: ModuleType) -> None:
    runs = [
        study.Run('full', 10, 0, 1e-3),
        study.Run('full', 10, 0, 1e-4),
        study.Run('full', 10, 1, 1e-3),
        study.Run('full', 10, 0, 1e-3, (('model.adapt.norm', 'affine'),)),
    ]
    assert len({run.name for run in runs}) == len(runs)
    assert runs[3].name == 'full_10_seed0_lr0.001_norm=affine'
