"""Benchmark of CSK-Net on a CPU, with a tiny network."""

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/benchmark'))

pytest.importorskip('mmseg')
import csknet  # noqa: E402

ALONE = 'ir alone', 'rgb alone'


@pytest.fixture(scope='module')
def page_and_result(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    path = tmp_path_factory.mktemp('csknet') / 'page.md'
    options = ['--device', 'cpu', '--networks', 'tiny', 'r50', '--timed', 'tiny']
    csknet.main([*options, '--size', '64', '96', '--rounds', '1', '--out', str(path)])
    return path.read_text(), json.loads(path.with_suffix('.json').read_text())


def test_one_camera_costs_what_the_plain_network_costs(page_and_result):
    for table in page_and_result[1]['tables']:
        plain = table['rows'][csknet.PLAIN]
        for mode in ALONE:
            row = table['rows'][mode]
            assert row['parameters'] == plain['parameters']
            assert row['flops'] == plain['flops']


def test_counts_of_resnet50(page_and_result):
    """Sections 3 and 6 of the specification, counted from the layers there."""
    rows = page_and_result[1]['tables'][1]['rows']
    plain, both = rows[csknet.PLAIN], rows['rgb + ir']
    assert plain['parameters'] == 41_220_057
    assert plain['flops'] == 352_149_045_248
    norms, gates, classifier = 53_248, 6 * 512**2, 512 * 9 + 9
    decoder = 17_692_793
    extra = norms + decoder + gates + classifier
    assert both['parameters'] == plain['parameters'] + extra
    # two passes, and at stride 4 the gated unit and its classifier
    fusion = 2 * 128 * 128 * (gates + 512 * 9)
    assert both['flops'] == 2 * plain['flops'] + fusion


def test_what_was_timed(page_and_result):
    text, result = page_and_result
    timed, counted = result['tables']
    plain = timed['rows'][csknet.PLAIN]
    for row in timed['rows'].values():
        assert row['ms'] > 0
        # one round, so that the median of the ratios is the ratio of the medians
        assert row['ratio'] == pytest.approx(row['ms'] / plain['ms'])
    assert timed['rows']['rgb + ir']['memory'] > plain['memory']
    assert all('ms' not in row for row in counted['rows'].values())
    assert '| ir alone | 41,220,057 | 352.149 | 1.00 |' in text
    assert '| mode | parameters | GFLOPs at 64x96 | ratio | ms at 64x96 | ' in text


def test_without_a_gpu_it_is_skipped_or_refused(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert csknet.main(['--if-present']) == {}
    assert capsys.readouterr().out.startswith('skipped: torch sees no CUDA GPU')
    with pytest.raises(SystemExit, match='sees no CUDA GPU: nothing was measured'):
        csknet.main(['--device', 'cuda'])


def test_make_knows_the_benchmark():
    text = (ROOT / 'Makefile').read_text()
    recipe = text.partition('\ngpu:')[2].partition('\n\n')[0]
    assert 'tools/benchmark/csknet.py --if-present' in recipe
