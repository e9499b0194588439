"""Fusion study: settings shared by its rows, and its tables."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmir.testing.scenes import write_flir

FOLDER = Path(__file__).resolve().parents[2] / 'tools/benchmark'
sys.path.insert(0, str(FOLDER))

import fusion  # noqa: E402

SHARED = 'train_cfg', 'param_scheduler', 'optim_wrapper', 'load_from', 'val_dataloader'


@pytest.fixture(scope='module', params=['street', 'coco'])
def street(request: pytest.FixtureRequest) -> dict[str, Config]:
    study, start = fusion.STUDIES[request.param], Path('rgb.pth')
    return {
        row: study.config(row, 1, Path('pairs'), start, Path('out'))
        for row in study.ROWS
    }


def test_rows_of_the_street_share_data_schedule_and_start(
    street: dict[str, Config],
) -> None:
    for row, cfg in street.items():
        for key in SHARED:
            assert cfg[key] == street['add'][key], (row, key)
        if not row.endswith('_drop'):
            assert cfg.train_dataloader == street['add'].train_dataloader, row
    assert street['add'].load_from == 'rgb.pth'
    kinds = {row: cfg.model.type for row, cfg in street.items()}
    assert kinds['rgb'] == kinds['ir'] == 'mmir.SingleModality'
    assert kinds['late'] == 'mmir.LateFusionDetector'
    assert street['add'].model == street['add_drop'].model


def test_dropping_is_the_last_step_of_training_alone(street: dict[str, Config]) -> None:
    def steps(row: str) -> list[str]:
        pipeline = street[row].train_dataloader.dataset.pipeline
        return [step['type'] for step in pipeline]

    assert steps('add_drop')[-2:] == ['mmir.DropModality', 'mmir.PackPairedInputs']
    assert steps('add') == steps('add_drop')[:-2] + steps('add_drop')[-1:]


def test_leaves_are_split_as_the_index_says_and_read_in_degrees(tmp_path: Path) -> None:
    index = [dict(name=str(k), split='test' if k > 2 else 'train') for k in range(5)]
    (tmp_path / 'index.json').write_text(json.dumps(index))
    study = fusion.STUDIES['apple']
    for row in study.ROWS:
        cfg = study.config(row, 0, tmp_path, None, tmp_path / 'out')
        for loader, names in (
            (cfg.train_dataloader, ['0', '1', '2']),
            (cfg.val_dataloader, ['3', '4']),
        ):
            assert Path(loader.dataset.ann_file).read_text().split() == names
            scale = loader.dataset.pipeline[2]
            assert scale['modality'] == 'ir', row
            assert scale['transforms'] == dict(
                type='mmir.RadiometricScale', gain=0.01, unit='celsius'
            )


def write_run(out: Path, row: str, seed: int, value: float) -> None:
    """A run whose metric is `value`, half of it without a camera or corrupted."""
    folder = out / f'runs/{row}_seed{seed}'
    folder.mkdir(parents=True)
    result = dict(
        settings=dict(row=row, seed=seed),
        seconds=120,
        trainable=7,
        parameters=9,
        loss=[[1], [2.0]],
        final=dict(hit=value),
    )
    subsets = {'rgb/hit': value / 2, 'rgb+ir/hit': value, 'rgb+ir/more': 0.25}
    noise = {f'ir_noise/{s}/hit': value / s for s in (1, 3)}  # with 5 no boxes at all
    corrupted = noise | {'ir_noise/5/other': 1.0, 'clean/hit': value}
    for name, values in (
        ('result', result),
        ('modality_subsets', subsets),
        ('corruptions', corrupted),
    ):
        (folder / f'{name}.json').write_text(json.dumps(values))


def test_tables_are_means_over_seeds(tmp_path: Path) -> None:
    for seed, value in enumerate((0.3, 0.5)):
        write_run(tmp_path, 'late', seed, value)
        write_run(tmp_path, 'ir', seed, value + 0.1)
    fusion.report(tmp_path, 'hit', ('more',), ('ir', 'late'), (1, 3, 5))
    text = (tmp_path / 'table.md').read_text()
    assert '| late | 2 | 0.400 ± 0.141 | 7 | 2.0 |' in text
    assert '| late | 2 | 0.200 ± 0.071 | 0.000 ± 0.000 | 0.400 ± 0.141 |' in text
    assert '| late | 2 | 0.250 ± 0.000 |' in text
    # (1 + 1/3 + 0) / 3 of 0.3 and 0.5: 0.1333 and 0.2222
    assert '| late | 2 | 0.400 ± 0.141 | 0.178 ± 0.063 |' in text
    assert text.index('| ir | 2 |') < text.index('| late | 2 |')
    results = json.loads((tmp_path / 'results.json').read_text())
    assert results['corruptions']['late_seed1']['clean/hit'] == 0.5
    assert [run['settings']['row'] for run in results['training']] == [
        'ir',
        'ir',
        'late',
        'late',
    ]
    assert (tmp_path / 'corruptions.png').stat().st_size > 1000


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    for seed, value in enumerate((0.3, 0.4, 0.5)):
        write_run(tmp_path, 'add', seed, value)
        write_run(tmp_path, 'shared', seed, value + 0.02)
    fusion.report(tmp_path, 'hit', (), ('add', 'shared'), ())
    text = (tmp_path / 'table.md').read_text()
    assert '| shared |  |  | **+2.0 [+2.0, +2.0]** |' in text
    assert 'strengths' not in text


def test_pictures_show_detections_with_and_without_a_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = write_flir(tmp_path / 'pairs', 2, 2, size=(64, 48), progress=False)
    for split in ('train', 'val'):
        labels = (pairs / split / 'thermal_annotations.json').read_bytes()
        (pairs / split / 'fused_annotations.json').write_bytes(labels)
    study, out = fusion.STUDIES['coco'], tmp_path / 'out'
    with DefaultScope.overwrite_default_scope('mmdet'):
        cfg = study.config('shared', 0, pairs, None, out)
        weights = MODELS.build(cfg.model).state_dict()
    folder = out / 'coco/runs/shared_seed0'
    folder.mkdir(parents=True)
    torch.save(dict(state_dict=weights), folder / 'model.pth')
    result = dict(checkpoint=str(folder / 'model.pth'))
    (folder / 'result.json').write_text(json.dumps(result))
    command = ['x', 'coco', '--data', str(pairs), '--out', str(out)]
    command += ['--rows', 'shared', '--images', '1']
    monkeypatch.setattr(sys, 'argv', command)
    pictures = importlib.import_module('fusion_pictures')
    pictures.main()
    height, width = cv2.imread(str(out / 'coco/detections.png')).shape[:2]
    assert width == 3 * 4.5 * 110
    assert height > 300
    model, data = pictures.network(
        'shared',
        argparse.Namespace(study='coco', seed=0, data=pairs, out=out),
    )
    titles = [panel.title for panel in pictures.panels(model, data[1], 'shared')]
    assert titles == ['shared: rgb+ir', 'shared: rgb', 'shared: ir']
