"""Both loops with a segmentor of mmseg on rendered scenes."""

from pathlib import Path

import cv2
import pytest
from mmengine.config import ConfigDict
from mmengine.runner import Runner

import mmir.evaluation  # registers the loops
import mmir.transforms.missing  # noqa: F401
from mmir.testing.scenes import render_scene

pytest.importorskip('mmseg')
SUBSETS = {'rgb': ('rgb',), 'ir': ('ir',), 'rgb+ir': ('rgb', 'ir')}


def paired(**transform):
    return dict(type='mmir.PairedTransform', transforms=transform)


LOAD = [
    dict(
        type='mmir.LoadPairedImages',
        modalities=dict(
            rgb=dict(), ir=dict(channels=1, folder=('rgb', 'ir'), suffix='.bmp')
        ),
    ),
    paired(type='Resize', scale=(96, 64), keep_ratio=True),
]
END = [dict(type='LoadAnnotations'), dict(type='mmir.PackPairedInputs')]


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    # Corruptions are drawn from the last three parts of a path. The folder that pytest
    # makes is numbered, by what ran before.
    root = tmp_path_factory.mktemp('scenes') / 'street'
    root.mkdir()
    for name in ('rgb', 'ir', 'labels'):
        (root / name).mkdir()
    for k in range(3):
        scene = render_scene((0, 0, k), (160, 128))
        cv2.imwrite(str(root / f'rgb/{k}.png'), scene.rgb)
        cv2.imwrite(str(root / f'ir/{k}.bmp'), scene.thermal8)
        cv2.imwrite(str(root / f'labels/{k}.png'), scene.semantic('rgb'))
    return root


def run(scenes, folder, loop, steps=(), tta=False):
    """Test a small network with weights from a seed."""
    views = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
    views = [[paired(**view)] for view in views]
    views = [
        dict(
            type='TestTimeAug',
            transforms=[[view[0] for view in views], [END[0]], [END[1]]],
        )
    ]
    norm = dict(type='BN')
    model = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='mmir.PairedSegDataPreprocessor',
            modalities=dict(
                rgb=dict(mean=[90, 95, 100], std=20, bgr_to_rgb=True),
                ir=dict(mean=[100], std=[20], channels=1),
            ),
            test_cfg=dict(size_divisor=32),
        ),
        backbone=dict(type='ERFNet', in_channels=4, norm_cfg=norm),
        decode_head=dict(
            type='FCNHead',
            in_channels=16,
            channels=32,
            num_convs=1,
            concat_input=False,
            num_classes=11,
            init_cfg=dict(type='Normal', std=1, override=dict(name='conv_seg')),
            norm_cfg=norm,
        ),
        test_cfg=dict(mode='whole'),
    )
    runner = Runner(
        model=ConfigDict(dict(type='SegTTAModel', module=model) if tta else model),
        work_dir=str(folder),
        test_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                type='BaseSegDataset',
                data_root=str(scenes),
                data_prefix=dict(img_path='rgb', seg_map_path='labels'),
                img_suffix='.png',
                metainfo=dict(classes=tuple('abcdefghijk')),
                test_mode=True,
                pipeline=[*LOAD, *steps, *(views if tta else END)],
            ),
        ),
        test_cfg=loop,
        test_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
        default_scope='mmseg',
        randomness=dict(seed=2),
        experiment_name=f'{Path(folder).name}_{len(steps)}_{tta}_{len(loop)}',
    )
    return runner, runner.test()


def test_subsets_equal_pipelines_that_drop(scenes, tmp_path):
    loop = dict(
        type='mmir.MissingModalityTestLoop', fills=['absent', 'zero'], metrics=['mIoU']
    )
    runner, found = run(scenes, tmp_path / 'loop', loop)
    wanted = {}
    for fill, label in (('absent', {}), ('zero', dict(rgb='rgb+ir(zero)'))):
        for name, subset in SUBSETS.items():
            if fill == 'zero' and name != 'rgb':
                continue
            drop = dict(type='mmir.DropModality', subset=subset, fill=fill)
            _, plain = run(scenes, tmp_path / name / fill, {}, [drop])
            wanted |= {f'{label.get(name, name)}/{k}': v for k, v in plain.items()}
    assert wanted.keys() < found.keys()
    assert {key: found[key] for key in wanted} == wanted
    assert len({found[f'{name}/aAcc'] for name in (*SUBSETS, 'rgb+ir(zero)')}) == 4
    table = (Path(runner.log_dir) / 'modality_subsets.md').read_text()
    assert table.splitlines()[-1] == f'| rgb+ir | {found["rgb+ir/mIoU"]:.4g} |'


def test_corruptions_with_test_time_augmentation(scenes, tmp_path):
    loop = dict(
        type='mmir.CorruptionTestLoop',
        corruptions=dict(ir=['noise', 'misalignment']),
        strengths=[1, 5],
    )
    _, found = run(scenes, tmp_path / 'loop', loop, tta=True)
    _, plain = run(scenes, tmp_path / 'plain', {}, tta=True)
    assert {k: v for k, v in found.items() if k.startswith('clean')} == {
        f'clean/{k}': v for k, v in plain.items()
    }
    rows = {key.rpartition('/')[0]: v for key, v in found.items() if 'mIoU' in key}
    assert len(rows) == 5
    assert len(set(rows.values())) > 3
