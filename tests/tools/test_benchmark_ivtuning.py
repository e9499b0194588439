"""Benchmark of IV-tuning on a CPU, with a tiny network."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/benchmark'))

import _ivtuning_rows  # noqa: E402
import _saved  # noqa: E402
import ivtuning  # noqa: E402

pytest.importorskip('mmpretrain')
D, LAYERS, HIDDEN, BATCH, LENGTH = 32, 2, 64, 2, 17
HEAD = 20 * D + 20


@pytest.fixture(scope='module')
def page_and_result(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    path = tmp_path_factory.mktemp('ivtuning') / 'page.md'
    options = ['--device', 'cpu', '--networks', 'vit-tiny', '--rounds', '1']
    ivtuning.main([*options, '--out', str(path)])
    return path.read_text(), json.loads(path.with_suffix('.json').read_text())


@pytest.fixture
def rows(page_and_result: tuple[str, dict]) -> dict[str, dict]:
    (table,) = page_and_result[1]['tables']
    return {row['name']: row for row in table['rows']}


def test_trainable_parameters(rows):
    patch, token = 3 * 16 * 16 * D, 17 * D + D
    block = 4 * D + 4 * D * D + 4 * D + 2 * D * HIDDEN + HIDDEN + D
    backbone = patch + D + token + LAYERS * block + 2 * D
    lora = LAYERS * 8 * (D + 3 * D + D + D)
    assert {name: rows[name]['trainable'] for name in list(rows)[:5]} == {
        'full': backbone + patch + HEAD,
        'full, RGB only': backbone + HEAD,
        'frozen': HEAD,
        'LoRA': lora + 2 * patch + D + HEAD,
        'dual branch': 2 * backbone + HEAD,
    }


def test_memory_on_a_cpu_is_resident_plus_activations(rows):
    for row in rows.values():
        assert row['memory'] == row['resident'] + row['activations']
        assert sum(row['saved'].values()) <= row['activations']
    # weights; gradients and two moments of what trains
    trains = rows['full, RGB only']['trainable']
    tensors = 4 * trains * 4
    assert tensors < rows['full, RGB only']['resident'] < 1.01 * tensors


def test_activations_of_a_frozen_backbone_are_those_of_the_head(rows):
    # the features that the head reads, with the class token in the same storage, and
    # log-probabilities, labels, total weight
    features, scores = 4 * BATCH * D * LENGTH, 4 * BATCH * 20 * 16
    labels, total = 8 * BATCH * 16, 4
    assert rows['frozen']['activations'] == features + scores + labels + total


def test_ratios(rows):
    full, frozen = rows['full'], rows['frozen']
    for row in rows.values():
        for kind in ('memory', 'activations'):
            assert row[f'{kind}_ratio'] == pytest.approx(row[kind] / full[kind])
        # one round, so that the median of the ratios is the ratio of the medians
        assert row['step_ratio'] == pytest.approx(row['step'] / full['step'])
        assert row['inference_ratio'] == pytest.approx(
            row['inference'] / frozen['inference']
        )


def test_the_page_holds_every_row_and_the_targets(page_and_result, rows):
    text, result = page_and_result
    assert result['left_out'] == []
    assert set(rows) == set(_ivtuning_rows.ROWS)
    assert all(f'\n| {name} | ' in text for name in rows)
    assert '| target | | | 0.8 | | 0.65 | | | 3.5% | | 1.06 |' in text


@pytest.mark.parametrize('row', _ivtuning_rows.ROWS)
def test_every_row_reads_its_images(row):
    run = _ivtuning_rows.Run(_ivtuning_rows.NETWORKS['vit-tiny'], row, 1, 'cpu', 'fp32')
    run.step()  # the infrared embedding of early fusion starts from zero
    run.images.requires_grad_()
    run.loss().backward()
    assert run.images.shape[1] == (3 if 'RGB' in row or row == 'frozen' else 6)
    assert all(part.abs().sum() > 0 for part in run.images.grad.split(3, 1))


@pytest.mark.slow
def test_compiled_networks(tmp_path):
    options = ['--device', 'cpu', '--networks', 'vit-tiny', '--rounds', '1']
    more = ['--compile', '--limit', '600', '--out', str(tmp_path / 'page.md')]
    result = ivtuning.main([*options, *more])
    assert result['left_out'] == []
    rows = {row['name']: row for row in result['tables'][0]['rows']}
    for name in _ivtuning_rows.COMPILED:
        plain = rows[name.removesuffix(', compiled')]
        assert rows[name]['trainable'] == plain['trainable']
        assert rows[name]['step'] > 0
        assert rows[name]['inference'] > 0


def test_checkpointing_changes_no_gradient():
    network = _ivtuning_rows.NETWORKS['vit-tiny']
    found = []
    for row in ('full', 'full, checkpointing'):
        torch.manual_seed(0)
        run = _ivtuning_rows.Run(network, row, 1, 'cpu', 'fp32')
        run.loss().backward()
        found.append([p.grad for p in run.trainable])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-7)


def test_saved_storages_count_once():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 8))
    with _saved.count_saved(model) as saved:
        model(torch.ones(2, 8)).square()
    # the input, the output of ReLU (which the next layer reads too), the last output
    assert saved.bytes == 3 * 4 * 2 * 8
    (line,) = (k for k in saved.by_line if k.startswith('test_benchmark'))
    assert line.endswith(' test_saved_storages_count_once')


def test_the_batch_is_halved_until_it_fits():
    tried = []

    class Exhausted:
        def __init__(self, row: str, batch: int) -> None:
            tried.append((row, batch))

        def step(self) -> None:
            if tried[-1][1] > 2:
                raise torch.OutOfMemoryError

    assert ivtuning.fitting_batch(Exhausted, 8) == 2
    assert tried == [('dual branch', n) for n in (8, 4, 2)]


def test_out_of_time_is_named(tmp_path):
    path = tmp_path / 'page.md'
    options = ['--device', 'cpu', '--networks', 'vit-tiny', '--limit', '-1']
    result = ivtuning.main([*options, '--out', str(path)])
    assert result['tables'] == []
    assert '\n- tiny ViT, fp32: out of time\n' in path.read_text()


def test_without_a_gpu_it_is_skipped_or_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert ivtuning.main(['--if-present']) == {}
    assert capsys.readouterr().out.startswith('skipped: torch sees no CUDA GPU')
    with pytest.raises(SystemExit, match='sees no CUDA GPU: nothing was measured'):
        ivtuning.main(['--device', 'cuda'])


def test_make_knows_the_benchmark():
    text = (ROOT / 'Makefile').read_text()
    recipe = text.partition('\ngpu:')[2].partition('\n\n')[0]
    assert 'tools/benchmark/ivtuning.py --if-present' in recipe
