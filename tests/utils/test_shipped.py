"""The shipped checkpoints: found, loaded offline, small, and good at what they know."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader

from mmir.testing.demo import DETECTOR, FAR
from mmir.testing.scenes import render_scene
from mmir.utils import shipped

ROOT = Path(__file__).resolve().parents[2]


def test_mmengine_loads_it_by_the_prefix() -> None:
    checkpoint = CheckpointLoader.load_checkpoint(f'mmir://{DETECTOR}', 'cpu')
    assert checkpoint['meta']['dataset_meta']['classes'] == ('person', 'bicycle', 'car')
    kinds = {v.dtype for v in checkpoint['state_dict'].values()}
    assert kinds == {torch.float16, torch.int64}
    assert sum(v.numel() for v in checkpoint['state_dict'].values()) > 6e6
    metafile = CheckpointLoader.load_checkpoint(f'mmir://{DETECTOR}/', 'cpu')
    assert metafile['state_dict'].keys() == checkpoint['state_dict'].keys()


def test_it_is_small_and_unknown_names_are_refused() -> None:
    path = shipped.shipped_checkpoint(DETECTOR)
    assert path == ROOT / 'demo' / DETECTOR
    assert path.stat().st_size <= 13 * 2**20
    with pytest.raises(FileNotFoundError, match=r'no demo/x\.pth .* from a wheel'):
        shipped.load_shipped('mmir://x.pth')


def test_models_without_weights_say_so() -> None:
    with pytest.raises(FileNotFoundError, match=r'no weights .*`weights=\.\.\.`'):
        CheckpointLoader.load_checkpoint(shipped.NOT_PUBLISHED, 'cpu')


def test_a_wheel_has_it_in_its_own_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shipped, '__file__', str(tmp_path / 'mmir/utils/shipped.py'))
    inside = tmp_path / 'mmir/.mim/demo/a.pth'
    inside.parent.mkdir(parents=True)
    torch.save(dict(state_dict=dict(w=torch.ones(2))), inside)
    assert shipped.load_shipped('mmir://a.pth')['state_dict']['w'].tolist() == [1, 1]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inter = np.prod(np.clip(high - low, 0, None))
    return inter / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inter)


def test_lines_of_the_page_load_it_by_name(tmp_path: Path) -> None:
    """In a fresh process and as written, with mmir found as if installed."""
    page = (ROOT / 'docs/predict.md').read_text()
    (lines,) = re.findall(r'<!-- run: name -->\n```python\n(.*?)```', page, re.DOTALL)
    package = tmp_path / 'mmir'
    package.mkdir()
    for part in (ROOT / 'mmir').iterdir():
        if part.name not in ('.mim', '__pycache__'):
            (package / part.name).symlink_to(part)
    (package / '.mim').mkdir()
    for name in ('configs', 'demo', 'model-index.yml'):
        (package / '.mim' / name).symlink_to(ROOT / name)
    code = f"""{lines}
assert cfg.model.type == 'mmir.YOLOv7', cfg.model.type
import numpy as np
gray = np.full((64, 96), 90, np.uint8)
assert list(detector(gray, no_save_vis=True)) == ['predictions', 'visualization']
"""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_inferencer_by_name_finds_most_cars_of_scenes(monkeypatch) -> None:
    """`DetInferencer` of the host, by name and offline, on scenes nobody trained on."""
    pytest.importorskip('mmdet')
    from mmdet.apis import DetInferencer
    from mmengine.infer import BaseInferencer
    from mmengine.registry import DefaultScope

    monkeypatch.setattr(
        BaseInferencer, '_get_repo_or_mim_dir', staticmethod(lambda _: str(ROOT))
    )
    scenes = [render_scene((77, k), night=False, far=FAR) for k in range(6)]
    previous = DefaultScope._instance_dict.copy()
    try:
        name = DETECTOR.removesuffix('.pth')
        infer = DetInferencer(name, scope='mmir', device='cpu', show_progress=False)
        found = infer([s.rgb for s in scenes], no_save_vis=True)['predictions']
    finally:
        DefaultScope._instance_dict = previous
    hits = cars = 0
    for scene, prediction in zip(scenes, found, strict=True):
        boxes = [
            np.array(box)
            for box, label, score in zip(
                prediction['bboxes'],
                prediction['labels'],
                prediction['scores'],
                strict=True,
            )
            if label == 2 and score > 0.3
        ]
        for thing in scene.objects:
            if thing.label == 'car' and thing.visible_rgb and thing.box_rgb:
                x, y, w, h = thing.box_rgb
                truth = np.array([x, y, x + w, y + h], float)
                cars += 1
                hits += any(overlap(truth, box) > 0.5 for box in boxes)
    assert cars >= 10
    assert hits >= 0.6 * cars
