"""Transfer study of COCO detectors: fair rows, and the statistics of its tables."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config
from study_modules import study_modules

from mmir.utils.errors import UserError

REAL = os.environ.get('MMIR_REAL_DATA')


@pytest.fixture(scope='module')
def modules() -> Iterator[dict[str, ModuleType]]:
    with study_modules('coco_transfer', 'coco_transfer_report', '_paired') as found:
        yield found


@pytest.fixture(scope='module')
def study(modules: dict[str, ModuleType]) -> ModuleType:
    return modules['coco_transfer']


@pytest.fixture(scope='module')
def report(modules: dict[str, ModuleType]) -> ModuleType:
    return modules['coco_transfer_report']


@pytest.fixture(scope='module')
def paired(modules: dict[str, ModuleType]) -> ModuleType:
    return modules['_paired']


def config(study: ModuleType, detector: str, row: str, images: int = 18) -> Config:
    spec = study.DETECTORS[detector].rows[row]
    run = study.Run(detector, 'street', row, images, 1, 416, spec.rate, spec.steps)
    return study.run_config(run, spec, Path('data'), Path('out'), held=False)


@pytest.mark.parametrize('detector', ['yolox-nano', 'yolov5n'])
def test_rows_differ_in_what_trains_only(study: ModuleType, detector: str) -> None:
    rows = study.DETECTORS[detector].rows
    configs = {name: config(study, detector, name) for name in rows}
    for name, cfg in configs.items():
        cfg.model.adapt = None
        cfg.optim_wrapper.optimizer.lr = 0
        spec = rows[name]
        if spec.steps == rows['full'].steps and spec.factor == 1:
            assert cfg._cfg_dict == configs['full']._cfg_dict


@pytest.mark.parametrize(
    ('task', 'width', 'height'),
    [('street', 416, 320), ('street', 640, 480), ('hituav', 416, 352)],
)
def test_input_has_the_shape_of_the_images(
    study: ModuleType, task: str, width: int, height: int
) -> None:
    assert study.TASKS[task].canvas(width) == (width, height)


@pytest.mark.skipif(not REAL, reason='MMIR_REAL_DATA is not set')
@pytest.mark.parametrize('task', ['street', 'hituav', 'drone'])
def test_images_of_the_tasks_are_where_they_are_sought(
    study: ModuleType, task: str
) -> None:
    spec = study.TASKS[task]
    parts = [spec.train, spec.test, spec.rgb, spec.rgb_train]
    for part in filter(None, parts):
        settings = part.dataset(Path(REAL), spec.classes)
        images = json.loads(Path(settings['ann_file']).read_text())['images']
        folder = Path(settings['data_root'], settings['data_prefix']['img'])
        assert all((folder / image['file_name']).is_file() for image in images)


def test_small_sets_are_repeated_to_full_batches(study: ModuleType) -> None:
    cfg = config(study, 'yolov5n', 'full', images=18)
    repeat = cfg.train_dataloader.dataset.dataset
    assert repeat.times * 18 >= study.EPOCH_IMAGES > (repeat.times - 1) * 18
    assert repeat.dataset.subset == dict(num=18, seed=1)
    per_epoch = -(-repeat.times * 18 // cfg.train_dataloader.batch_size)
    steps = cfg.train_cfg.max_epochs * per_epoch
    assert abs(steps - study.DETECTORS['yolov5n'].rows['full'].steps) <= per_epoch


def test_held_out_images_are_every_third_training_image(
    study: ModuleType, tmp_path: Path
) -> None:
    images = [dict(id=i) for i in range(7)]
    boxes = [dict(id=i, image_id=i % 7) for i in range(14)]
    file = tmp_path / 'train/thermal.json'
    file.parent.mkdir()
    file.write_text(json.dumps(dict(images=images, annotations=boxes)))
    parts = [json.loads(f.read_text()) for f in study.hold_out(file, tmp_path)]
    ids = [[image['id'] for image in part['images']] for part in parts]
    assert ids == [[0, 1, 3, 4, 6], [2, 5]]
    assert [len(part['annotations']) for part in parts] == [10, 4]


def test_rows_are_parsed(study: ModuleType) -> None:
    rows = study.DETECTORS['yolov5n'].rows
    assert study.parse_row('full', rows) == ('full', rows['full'])
    name, row = study.parse_row('norm@3e-3@40', rows)
    assert (name, row.rate, row.steps, row.factor) == ('norm', 3e-3, 40, 1)
    assert study.parse_row('norm@3e-3@40@10', rows)[1].factor == 10
    assert row.adapt == rows['norm'].adapt
    with pytest.raises(UserError, match="no row 'nothing', choose from"):
        study.parse_row('nothing', rows)
    for text in ('norm@fast', 'norm@1e-3@40@1@2'):
        with pytest.raises(UserError, match=f'--rows: {text}'):
            study.parse_row(text, rows)


def test_bootstrap_takes_all_resamples(paired: ModuleType) -> None:
    assert paired.bootstrap_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    # means 0, 1/2, 1/2, 1: a quarter of the way into the outer gaps at 50 % coverage
    assert paired.bootstrap_interval([0.0, 1.0], 0.5) == pytest.approx((0.375, 0.625))


def row(name: str, seed: int, value: float) -> dict:
    return dict(
        settings=dict(row=name, seed=seed, images=18, rate=1e-3),
        thermal=dict(mAP_50=value),
        rgb=dict(mAP_50=value / 2),
        trainable=10,
        adapter_bytes=None,
        seconds=60.0,
    )


def test_differences_are_paired_by_seed(report: ModuleType, paired: ModuleType) -> None:
    def difference(rows: list[dict], others: list[dict]) -> str:
        return paired.difference(report.by_seed(rows), report.by_seed(others))

    ours = [row('lora', seed, 0.5 + 0.1 * seed) for seed in (2, 1, 0, 7)]
    theirs = [row('full', seed, 0.48 + 0.1 * seed) for seed in range(3)]
    assert difference(ours, theirs) == '**+2.0 [+2.0, +2.0]**'
    assert difference(ours, theirs[:2]) == ''
    theirs[0] = row('full', 0, 0.9)
    # differences -40, 2, 2: 0.65 of the way from the least of 27 means to the next
    assert difference(ours, theirs) == '-12.0 [-30.9, +2.0]'


def test_rows_of_several_rates_are_told_apart(report: ModuleType) -> None:
    runs = [row('full', 0, 0.2), row('full', 1, 0.3), row('lora', 0, 0.5)]
    runs[1]['settings']['rate'] = 3e-4
    names = [run['settings']['row'] for run in report.named(runs)]
    assert names == ['full, rate 0.001', 'full, rate 0.0003', 'lora']
    assert runs[0]['settings']['row'] == 'full'
    assert report.ordered(['lora', 'norm', *names]) == [
        'full, rate 0.0003',
        'full, rate 0.001',
        'norm',
        'lora',
        'lora',
    ]


def test_table_counts_missing_runs(report: ModuleType) -> None:
    runs = [row('full', seed, 0.25) for seed in range(3)] + [row('lora', 0, 0.5)]
    lines = report.results_table(runs).splitlines()
    assert lines[2].startswith('| full | 0.250 ± 0.000 | 10 |')
    assert lines[3].startswith('| lora | 0.500 (1) | 10 |')
    assert lines[3].endswith('| 1.0 | 0.250 |')
