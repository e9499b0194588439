"""The study of CSK-Net: rows, queue, report."""

import json
import math
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from study_modules import study_modules

from mmir.utils.files import write_json

pytest.importorskip('mmseg')

NAMES = '_field', '_csk_rows', '_csk_tasks', '_runs', '_paired'
STUDY = 'csknet_study', 'csknet_study_report', 'csknet_study_pictures'


@pytest.fixture(scope='module')
def modules() -> Iterator[dict[str, ModuleType]]:
    with study_modules(*NAMES, *STUDY) as found:
        yield found


@pytest.fixture
def args(tmp_path: Path) -> Namespace:
    """Arguments of the study, with an index of images and no images."""
    index = dict(images=[dict(id=f'{k:03}', split='train') for k in range(3)])
    (tmp_path / 'cwfid').mkdir()
    write_json(index, tmp_path / 'cwfid/index.json')
    return Namespace(
        data=tmp_path, weights=tmp_path, out=tmp_path / 'out', task='field'
    )


def test_weights_of_rare_classes(modules) -> None:
    weights = modules['_field'].enet_weights()
    assert sum(weights) == pytest.approx(3, abs=0.01)
    # 1 / ln(1.946), 1 / ln(1.036), 1 / ln(1.078)
    raw = [1.502, 28.27, 13.31]
    expected = [value * 3 / sum(raw) for value in raw]
    assert weights == pytest.approx(expected, rel=0.01)


def test_classes_without_a_pixel_have_no_weight(modules) -> None:
    weights = modules['_field'].enet_weights([0.9, 0.0, 0.1])
    raw = [1 / math.log(1.92), 0, 1 / math.log(1.12)]
    expected = [2 * value / sum(raw) for value in raw]
    assert weights == pytest.approx(expected, abs=1e-3)


def test_every_third_training_image_is_held_out(modules, args) -> None:
    modules['csknet_study'].run_config(
        modules['csknet_study'].Run('rgb', 0, True), args
    )
    assert (args.out / 'field_held_test.txt').read_text() == '002'
    assert (args.out / 'field_held_train.txt').read_text() == '000\n001'


def built(modules, args, row: str) -> torch.nn.Module:
    """The model of a row, without weights."""
    cfg = modules['csknet_study'].run_config(modules['csknet_study'].Run(row, 0), args)
    init_default_scope('mmseg')
    model = dict(cfg.model)
    if model.get('teacher'):
        model['teacher'] = dict(model['teacher'], checkpoint=None)
    return MODELS.build(model)


@pytest.mark.parametrize(
    'row', ['rgb', 'early', 'csk', 'csk, shared norms', 'csk, separate', 'csk, add']
)
def test_rows_build(modules, args, row: str) -> None:
    model = built(modules, args, row).eval()
    pair = torch.rand(1, 6, 64, 64)
    assert model(pair).shape == (1, 3, 16, 16)


def test_a_student_waits_for_its_teacher(modules, args) -> None:
    study = modules['csknet_study']
    run = study.Run('csk, teacher ir', 3, choice=json.dumps(dict(rate=0.1, p_solo=0.3)))
    assert run.teacher() == study.Run('ir', 3, choice=json.dumps(dict(rate=0.1)))
    teacher = study.run_config(run, args).model.teacher
    assert teacher.modality == 'ir'
    assert teacher.checkpoint == str(run.teacher().folder(args.out) / 'model.pth')
    args.rows, args.seeds, args.search = ['csk, teacher ir'], [0], None
    assert [r.row for r in study.all_runs(args)] == ['ir', 'csk, teacher ir']


def test_distillation_goes_into_the_deployed_branch_where_the_row_says_so(
    modules, args
) -> None:
    study = modules['csknet_study']
    for row, students in (
        ('csk, teacher ir', None),
        ('csk, teacher ir, into rgb', ('rgb',)),
    ):
        teacher = study.run_config(study.Run(row, 0), args).model.teacher
        assert (teacher.students and tuple(teacher.students)) == students


def written(folder: Path, scores: dict[str, tuple[float, ...]]) -> None:
    """Results of runs: row -> mIoU in infrared by seed."""
    for row, values in scores.items():
        for seed, value in enumerate(values):
            subsets = {'rgb': 30.0, 'ir': value, 'rgb+ir': 60.0}
            settings = dict(row=row, seed=seed, held=False, choice={})
            result = dict(
                settings=settings,
                seconds=60.0,
                subsets=subsets,
                recalibrated=dict(ir=value + 1) if row.startswith('csk') else None,
            )
            write_json(result, folder / f'test/{row}_{seed}/result.json')


def reported(modules, folder: Path, monkeypatch, capsys) -> dict[str, str]:
    """Heading -> table of a report."""
    monkeypatch.setattr(sys, 'argv', ['report', str(folder)])
    modules['csknet_study_report'].main()
    parts = capsys.readouterr().out.split('#### ')[1:]
    return dict(part.split('\n\n', 1) for part in parts)


def test_report_compares_with_the_baseline(
    modules, tmp_path: Path, monkeypatch, capsys
) -> None:
    written(
        tmp_path, {'ir': (50.0, 52.0, 51.0), 'csk, teacher rgb': (53.0, 54.5, 54.0)}
    )
    tables = reported(modules, tmp_path, monkeypatch, capsys)
    main = tables['Main rows, minus the baseline']
    assert 'csk, teacher rgb | 3 |' in main
    # mean of 53, 54.5, 54; the differences are 3, 2.5 and 3
    assert '| 53.8 ± 0.8 | **+2.8 [+2.' in main
    assert (
        '| 54.8 ± 0.8 | **+1.0 [+1.0, +1.0]** |'
        in tables['New statistics for one camera']
    )
    assert len(json.loads((tmp_path / 'results.json').read_text())) == 6
    assert (tmp_path / 'scores.png').read_bytes().startswith(b'\x89PNG')


def test_runs_of_a_seed_are_averaged(modules) -> None:
    report = modules['csknet_study_report']
    scores = [('ir', 0, 50.0), ('ir', 1, 52.0), ('ir', 1, 55.0), ('ir', 2, 50.0)]
    scores += [('csk', 0, 51.0), ('csk', 1, 55.5), ('csk', 2, 52.0)]
    runs = [
        dict(settings=dict(row=row, seed=seed), subsets=dict(ir=value))
        for row, seed, value in scores
    ]
    assert report.by_seed(runs, 'ir', 'ir') == {0: 50, 1: 53.5, 2: 50}
    table = report.results_table(runs, ['ir', 'csk'], report.baseline).splitlines()
    assert table[2].startswith('| ir | 3 |')
    assert table[2].endswith('| 51.2 ± 2.0 |  |')
    assert '| **+1.7 [+1.' in table[3]  # 1, 2 and 2


def test_fresh_seeds_are_shown_apart(modules, tmp_path: Path, monkeypatch, capsys):
    """The first three seeds of a part chose it; five later ones are another sample."""
    base = (50.0, 51.0, 52.0, 50.0, 51.0, 52.0)
    part = (52.0, 53.0, 54.0, 49.0, 50.0, 51.0)  # 2 more, then 1 less
    written(tmp_path, {'ir': base, 'csk': base, 'csk, add': part})
    tables = reported(modules, tmp_path, monkeypatch, capsys)
    line = next(x for x in tables['Fresh seeds'].splitlines() if '| ir | ir |' in x)
    assert line.startswith('| csk, add | ir | ir | **+2.0 [+2.0, +2.0]** | **-1.0')
    assert '| +0.5 [' in line
    parts = tables['One part changed, minus CSK-Net']
    assert '| csk, add | 3 |' in parts
    assert parts.strip().endswith('| 53.0 ± 1.0 | **+2.0 [+2.0, +2.0]** |')
    assert '| ir | 5 |' in tables['Main rows, minus the baseline']
    # the same tables from one file of all tasks
    runs = json.loads((tmp_path / 'results.json').read_text())
    write_json(dict(field=runs), tmp_path / 'all.json')
    again = reported(modules, tmp_path / 'all.json', monkeypatch, capsys)
    assert {k: v.strip() for k, v in again.items()} == {
        k: v.strip() for k, v in tables.items()
    }


def test_report_compares_each_part_with_the_whole(
    modules, tmp_path: Path, monkeypatch, capsys
) -> None:
    written(
        tmp_path,
        {
            'csk': (50.0, 52.0, 51.0),
            'csk, add': (49.0, 51.0, 50.0),
            'csk, teacher ir': (53.0, 53.0, 53.0),
            'csk, teacher ir, encoder': (55.0, 55.0, 55.0),
        },
    )
    tables = reported(modules, tmp_path, monkeypatch, capsys)
    parts = tables['One part changed, minus CSK-Net'].splitlines()
    assert next(x for x in parts if x.startswith('| csk, add')).endswith(
        '| 50.0 ± 1.0 | **-1.0 [-1.0, -1.0]** |'
    )
    assert next(x for x in parts if 'encoder' in x).endswith(
        '| 55.0 ± 0.0 | **+2.0 [+2.0, +2.0]** |'
    )
    teacher = tables['With a teacher, minus without'].strip().splitlines()[-1]
    assert teacher.startswith('| csk, teacher ir | 3 |')
    assert '+2.0 [' in teacher


def test_pictures_show_unlabeled_pixels_black(modules) -> None:
    pictures = modules['csknet_study_pictures']
    colored = pictures.colored(np.array([[0, 1, 255]]))
    assert colored[0].tolist() == [[90, 70, 50], [60, 220, 60], [0, 0, 0]]
    assert pictures.panel(colored, 'title').shape == (100, 240, 3)
