"""`make demo`: its table, what it says when a stage fails; the checkpoint it ships."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def demo() -> ModuleType:
    return load('tools/demo.py')


def test_the_table_names_before_and_after(demo: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / 'adapter.pth'
    file.write_bytes(bytes(2**20))
    before = dict(seconds=30, map50=([0], [0.05]))
    after = dict(
        seconds=90,
        map50=([0, 8, 16], [0.05, 0.2, 0.4]),
        trainable=5,
        total=50,
        file=file,
    )
    lines = demo.table({demo.BEFORE: before, demo.AFTER: after}).splitlines()
    assert lines[2] == '| before | 0.050 | none | none | 0.5 min |'
    assert lines[3] == (
        '| adapted (ConvLoRA) | 0.400 | 5 (10.0%) | 1.0 MiB | 1.5 min |'
    )


def test_both_ways_start_from_the_shipped_detector(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def train_stage(arguments: list[str], work_dir: Path, title: str) -> float:
        seen[title] = arguments
        raise demo.StageError('disk full')

    monkeypatch.setattr(demo, 'train_stage', train_stage)
    for name in demo.STAGES:
        with pytest.raises(demo.StageError, match='disk full'):
            demo.run_stage(name, tmp_path, dict(checkpoint=Path('rgb.pth')))
    assert list(seen) == [demo.AFTER, demo.FULL]
    tails = {tuple(arguments[1:]) for arguments in seen.values()}
    assert tails == {('--demo', '--seed', '0', '--cfg-options', 'load_from=rgb.pth')}
    configs = [Path(arguments[0]) for arguments in seen.values()]
    assert all(config.is_file() for config in configs)
    assert [c.stem for c in configs] == ['yolo_flir_1pct', 'yolo_flir_1pct_full']


def test_a_failed_stage_ends_with_its_output(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    broken = tmp_path / 'tools'
    broken.mkdir()
    (broken / 'test.py').write_text('print("no space left"); raise SystemExit(3)')
    monkeypatch.setattr(demo, 'tools_folder', lambda: broken)
    monkeypatch.setattr('sys.argv', ['demo.py', '--out', str(tmp_path / 'out')])
    assert demo.main() == 1
    said = capsys.readouterr().err
    assert 'before: exit code 3' in said
    assert 'no space left' in said


def test_a_published_checkpoint_holds_weights_and_classes(
    tmp_path: Path, capsys
) -> None:
    tool = load('tools/misc/publish_checkpoint.py')
    weights = dict(w=torch.tensor([1.5, 2.0]), n=torch.tensor(3))
    meta = dict(epoch=4, cfg='secret = 1', dataset_meta=dict(classes=['a', 'b'], p=1))
    source, target = tmp_path / 'epoch_4.pth', tmp_path / 'small.pth'
    torch.save(dict(meta=meta, state_dict=weights, optimizer=dict(x=1)), source)
    tool.main([str(source), str(target), '--half'])
    found = torch.load(target, weights_only=True)
    assert found['meta'] == dict(dataset_meta=dict(classes=('a', 'b')))
    assert found.keys() == {'meta', 'state_dict'}
    assert found['state_dict']['w'].dtype == torch.float16
    assert found['state_dict']['w'].tolist() == [1.5, 2.0]
    assert found['state_dict']['n'].dtype == torch.int64
    assert 'sha256' in capsys.readouterr().out
    tool.main([str(source), str(target)])
    assert (
        torch.load(target, weights_only=True)['state_dict']['w'].dtype == torch.float32
    )
