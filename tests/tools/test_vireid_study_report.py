"""Tables of the study of visible-infrared re-identification, and what they refuse."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import pytest
from study_modules import study_modules

from mmir.utils.errors import UserError
from mmir.utils.files import write_json

pytest.importorskip('mmpretrain')


@pytest.fixture(scope='module')
def report() -> Iterator[ModuleType]:
    with study_modules('vireid_study_report') as found:
        yield found['vireid_study_report']


def test_report(report, tmp_path: Path, monkeypatch, capsys) -> None:
    scores = {'baseline': (50.0, 52.0, 51.0), 'TMPA': (53.0, 54.5, 54.0)}
    for row, values in scores.items():
        for seed, value in enumerate(values):
            measures = dict(R1=value - 9, mAP=value, mINP=value)
            settings = dict(task='crops', row=row, seed=seed, held=False, choice={})
            result = dict(settings=settings, seconds=60.0, trainable=2_200_000)
            result |= dict(values=dict(ir2rgb=measures, rgb2ir=measures))
            write_json(result, tmp_path / f'crops/test/{row}_{seed}/result.json')
    monkeypatch.setattr(sys, 'argv', ['report', str(tmp_path)])
    report.main()
    table = capsys.readouterr().out
    assert '| TMPA | 3 | 44.8 ± 0.8 | 53.8 ± 0.8 |' in table
    # the differences are 3, 2.5 and 3
    assert '**+2.8 [+2.' in table
    assert '| baseline | 3 | 42.0 ± 1.0 | 51.0 ± 1.0 | 51.0 ± 1.0 |  |' in table
    assert len(json.loads((tmp_path / 'results.json').read_text())) == 6
    picture = cv2.imread(str(tmp_path / 'scores_crops.png'))
    assert picture.std() > 10  # not blank
    monkeypatch.setattr(sys, 'argv', ['report', str(tmp_path / 'results.json')])
    report.main()
    assert capsys.readouterr().out == table
    monkeypatch.setattr(sys, 'argv', ['report', str(tmp_path / 'none')])
    with pytest.raises(UserError, match='no finished runs'):
        report.main()


def test_report_of_parts(report) -> None:
    scores = {'baseline': 50, 'MFT': 52, 'TMPA': 51, 'TMPA, center': 54}
    runs = [
        dict(
            settings=dict(task='crops', row=row, seed=seed, held=False, choice={}),
            values=dict(ir2rgb=dict(mAP=value + seed), rgb2ir=dict(mAP=value - seed)),
        )
        for row, value in scores.items()
        for seed in range(3)
    ]
    lines = report.steps_table(runs, 'crops').splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert cells == [
        ['MFT', 'baseline', *['**+2.0 [+2.0, +2.0]**'] * 2],
        ['TMPA', 'MFT', *['**-1.0 [-1.0, -1.0]**'] * 2],
        ['TMPA, center', 'TMPA', *['**+3.0 [+3.0, +3.0]**'] * 2],
    ]


def test_report_of_8_bits(report) -> None:
    runs = []
    for seed, (exact, rough) in enumerate([(50, 49), (52, 51), (51, 51)]):
        measures = {
            key: dict(ir2rgb=dict(mAP=value), rgb2ir=dict(mAP=value + 1))
            for key, value in {'values': exact, 'int8': rough, 'int8, all': 40}.items()
        }
        settings = dict(task='crops', row='plain', seed=seed, held=False, choice={})
        measures['cosines'] = {'int8': 0.97 + 0.01 * seed, 'int8, all': 0.9}
        runs.append(dict(settings=settings, **measures))
    lines = report.int8_table(runs, 'crops').splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    exact, every, rough, change = cells
    assert exact == ['plain', 'float32', '', '51.0 ± 1.0', '', '52.0 ± 1.0', '']
    assert every[:4] == ['plain', 'int8, all', '90.0 ± 0.0', '40.0 ± 0.0']
    assert every[4].startswith('**-11.0 [')
    assert change[:3] == ['plain', 'int8 minus int8, all', '']
    assert change[3].startswith('**+10.3 [')
    # of 27 means of resamples of -1, -1 and 0, the two largest are 0 and -1/3
    assert rough[2:5] == ['98.0 ± 1.0', '50.3 ± 1.2', '**-0.7 [-1.0, -0.2]**']


def test_report_refuses_different_settings(report) -> None:
    check = report.check_settings

    def run(row: str, seed: int, rate: float | None) -> dict:
        choice = {} if rate is None else dict(rate=rate, steps=80)
        return dict(settings=dict(row=row, seed=seed, choice=choice))

    fine = [run('baseline', 0, 0.1), run('TMPA', 0, 0.2), run('baseline', 1, 0.3)]
    fine.append(run('frozen CLIP', 0, None))
    check(fine, 'crops')
    for row in ('TOP, L_id', 'TOP, soup'):
        pretrained = run(row, 2, 0.1)
        pretrained['settings']['choice']['pretraining_rate'] = 0.5
        fine.append(pretrained)
    fine.append(run('plain', 2, 0.1))  # has the same network and no pretraining
    check(fine, 'crops')
    fine[-2]['settings']['choice']['pretraining_rate'] = 0.7
    with pytest.raises(UserError, match=r'seed 2: .* 0.5: TOP, L_id; 0.7: TOP, soup'):
        check(fine, 'crops')
    fine = fine[:-3]
    message = r'crops, seed 0: .*"rate": 0.1, .*: baseline; .*"rate": 0.4, .*: {}'
    for row in ('baseline', 'PedMix'):  # the same row, and a row that inherits
        with pytest.raises(UserError, match=message.format(row)):
            check([*fine, run(row, 0, 0.4)], 'crops')


def test_report_of_the_search(report) -> None:
    runs = [
        dict(
            settings=dict(row='TMPA', seed=seed, choice=dict(rate=rate, steps=80)),
            values=dict(ir2rgb=dict(mAP=value), rgb2ir=dict(mAP=value + 1)),
        )
        for seed, rate, value in ((1, 0.1, 20), (1, 0.03, 25), (0, 0.1, 30))
    ]
    lines = report.search_table(runs).splitlines()
    assert lines[0] == '| row | seed | rate 0.03 | rate 0.1 |'
    assert lines[2:] == ['| TMPA | 0 |  | **30.5** |', '| TMPA | 1 | **25.5** | 20.5 |']


def test_multiplications_where_they_were_measured(report) -> None:
    def run(row: str, macs: int) -> dict:
        settings = dict(task='crops', row=row, seed=0, held=False, choice={})
        measures = dict(R1=1.0, mAP=2.0, mINP=3.0)
        values = dict(ir2rgb=measures, rgb2ir=measures)
        sizes = dict(trainable=2_345_678, macs=macs)
        return dict(settings=settings, seconds=90.0, values=values, **sizes)

    runs = [run('plain', 64_400_000), run('ResNet-50', 860_750_000)]
    lines = report.results_table(runs, 'crops').splitlines()
    assert lines[0].endswith('| M parameters | M MACs | minutes |')
    assert lines[2].endswith('| 2.3 | 64.4 | 1.5 |')
    assert lines[3].endswith('| 2.3 | 861 | 1.5 |')
    runs[0].pop('macs')
    lines = report.results_table(runs, 'crops').splitlines()
    assert lines[0].endswith('| M parameters | minutes |')


def test_report_of_pretrainings(report, tmp_path: Path, monkeypatch, capsys) -> None:
    images = dict(car=170, bicycle=25)
    many = {f'{k:04d}': 4 for k in range(9)}
    one = dict(loss=1.5, loss_identity=1.5)
    two = dict(loss=2.5, loss_identity=1.5, loss_domain=1.0)
    for row, found, kinds in (('L', two, images), ('M', one, many)):
        settings = dict(task='crops', row=f'pretraining, {row}', seed=1, held=False)
        settings['choice'] = dict(rate=0.01)
        result = dict(settings=settings, losses=found, distance=0.0123, images=kinds)
        write_json(result, tmp_path / f'crops/test/{row}/result.json')
    monkeypatch.setattr(sys, 'argv', ['report', str(tmp_path)])
    report.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '#### crops: pretrainings'
    assert lines[2] == 'Images: car 170, bicycle 25; 36 of 9 classes.'
    assert lines[6:8] == [
        '| pretraining, L | 1 | 0.01 | 1.500 | 1.000 | 1.2 % |',
        '| pretraining, M | 1 | 0.01 | 1.500 |  | 1.2 % |',
    ]
