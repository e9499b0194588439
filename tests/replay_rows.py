"""Stock transforms that PairedTransform supports, one row per transform."""

import importlib
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
from paired_samples import HEIGHT, WIDTH


@dataclass
class Row:
    """A stock transform, or a list of them, and what to try it on."""

    host: str
    transforms: dict | list[dict]
    mix: int = 0
    """How many samples it mixes in."""
    masks: bool = True
    """Whether it works with instance masks and a semantic map."""
    dtype: type = np.uint8
    marks: float | None = None
    """Grey value between mark and ground, where boxes can be followed by marks."""
    label: str = field(init=False)

    def __post_init__(self) -> None:
        listed = [self.transforms] if isinstance(self.transforms, dict) else None
        names = [t['type'] for t in listed or self.transforms]
        self.label = f'{self.host}-{"+".join(names)}'


MMCV = [
    dict(type='Resize', scale=(40, 30)),
    dict(type='Resize', scale_factor=1.5),
    dict(type='Resize', scale=(50, 50), keep_ratio=True),
    dict(type='RandomResize', scale=(64, 48), ratio_range=(0.5, 1.5)),
    dict(type='RandomChoiceResize', scales=[(40, 30), (80, 60)]),
    dict(type='RandomFlip', prob=[0.3, 0.3], direction=['horizontal', 'vertical']),
    dict(type='Pad', size=(80, 60)),
    dict(type='Pad', size_divisor=32),
    dict(type='CenterCrop', crop_size=(40, 30)),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='Resize', scale=(40, 30))],
            [dict(type='RandomFlip', prob=0.5), dict(type='Pad', size_divisor=32)],
        ],
    ),
    dict(type='RandomApply', transforms=dict(type='Resize', scale=(40, 30)), prob=0.5),
    dict(type='Compose', transforms=[dict(type='RandomFlip', prob=0.5)]),
]
MMCV_LISTS = [[dict(type='RandomFlip', prob=0.5), dict(type='Resize', scale=(40, 30))]]
MMCV_COLOURS = [
    dict(type='RandomGrayscale', prob=0.5, keep_channels=True),
    dict(type='Normalize', mean=[1, 2, 3], std=[4, 5, 6], to_rgb=True),
]
MMDET = [
    dict(type='Resize', scale=(40, 30)),
    dict(type='FixScaleResize', scale=(50, 50), keep_ratio=True),
    dict(type='FixShapeResize', width=40, height=50, keep_ratio=True),
    dict(type='ResizeShortestEdge', scale=32, max_size=60),
    dict(type='RandomResize', scale=(64, 48), ratio_range=(0.5, 1.5), keep_ratio=True),
    dict(type='RandomFlip', prob=[0.2, 0.2], direction=['horizontal', 'diagonal']),
    dict(type='Pad', size_divisor=32),
    dict(type='RandomCrop', crop_size=(0.6, 0.6), crop_type='relative_range'),
    dict(type='RandomCrop', crop_size=(30, 40), allow_negative_crop=True),
    dict(type='MinIoURandomCrop', min_ious=(0.1, 0.3), min_crop_size=0.4),
    dict(type='Expand', seg_ignore_label=255, ratio_range=(1, 2)),
    dict(type='Rotate', max_mag=20.0),
    dict(type='ShearX'),
    dict(type='ShearY', interpolation='nearest'),
    dict(type='TranslateX', max_mag=0.3),
    dict(type='TranslateY', max_mag=0.3),
    dict(
        type='RandomOrder',
        transforms=[
            dict(type='Resize', scale=(40, 30)),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
]
MMDET_BOXES = [  # these refuse masks, or leave them where they are
    dict(type='RandomShift', prob=0.7, max_shift_px=8),
    dict(type='RandomAffine', scaling_ratio_range=(0.7, 1.3)),
    dict(type='RandomAffine', border=(-8, -4), max_rotate_degree=30.0),
    dict(type='mmir.CenteredRandomAffine', border=(-8, -4), max_rotate_degree=30.0),
]
MMDET_COLOURS = [
    dict(type='YOLOXHSVRandomAug'),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomErasing', n_patches=(1, 3), ratio=(0.1, 0.3)),
    dict(type='CutOut', n_holes=(1, 3), cutout_shape=[(8, 8), (4, 12)]),
    *(
        dict(type=name)
        for name in (
            'Color', 'Brightness', 'Contrast', 'Sharpness', 'Solarize', 'SolarizeAdd',
            'Posterize', 'Equalize', 'AutoContrast', 'Invert', 'AutoAugment',
            'RandAugment',
        )
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(16, 16)),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(99, 99)),  # keeps none: None
    dict(type='Corrupt', corruption='gaussian_blur'),
]  # fmt: skip
CENTER_CROP_PAD = dict(
    type='RandomCenterCropPad', crop_size=(40, 40), border=16, mean=[1, 2, 3],
    std=[1, 1, 1], to_rgb=True, test_pad_mode=None,
)  # fmt: skip
SCALE = (WIDTH, HEIGHT)
MMSEG = [
    dict(type='Resize', scale=(40, 30)),
    dict(type='RandomResize', scale=(64, 48), ratio_range=(0.5, 1.5), keep_ratio=True),
    dict(type='ResizeToMultiple', size_divisor=20),
    dict(type='ResizeShortestEdge', scale=32, max_size=60),
    dict(type='RandomCrop', crop_size=(24, 32), cat_max_ratio=0.75),
    dict(type='RandomRotate', prob=0.7, degree=20),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomRotFlip', rotate_prob=0.5, flip_prob=0.5),
]
MMSEG_COLOURS = [
    dict(type='PhotoMetricDistortion'),
    dict(
        type='RandomCutOut', prob=0.7, n_holes=(1, 3), cutout_shape=[(4, 4), (8, 8)],
        seg_fill_in=255,
    ),
    dict(type='CLAHE'),
    dict(type='AdjustGamma', gamma=1.4),
    dict(type='RGB2Gray'),
    dict(type='Rerange'),
    dict(type='SegRescale', scale_factor=0.5),
    dict(type='GenerateEdge'),
]  # fmt: skip
RANDAUGMENT = dict(
    type='RandAugment', policies='timm_increasing', num_policies=2, magnitude_level=6,
    magnitude_std=0.5,
)  # fmt: skip
MMPRETRAIN = [
    dict(type='RandomCrop', crop_size=(24, 32), padding=4),
    dict(type='RandomResizedCrop', scale=32),
    dict(type='EfficientNetRandomCrop', scale=32),
    dict(type='EfficientNetCenterCrop', crop_size=32),
    dict(type='ResizeEdge', scale=40),
    dict(type='RandomErasing', erase_prob=0.7, mode='rand'),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    dict(type='Lighting', eigval=[9.0], eigvec=[[1.0], [0.5], [0.2]]),
    dict(type='AutoAugment', policies='imagenet'),
    RANDAUGMENT,
    dict(type='Shear', magnitude=0.2),
    dict(type='Translate', magnitude=0.2),
    dict(type='Rotate', angle=20.0),
    dict(type='Solarize', thr=100),
    dict(type='SolarizeAdd', magnitude=50),
    dict(type='Posterize', bits=3),
    dict(type='Cutout', shape=10),
    dict(type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf'),
    *(dict(type=n, magnitude=0.3) for n in (
        'Contrast', 'ColorTransform', 'Brightness', 'Sharpness')),
    *(dict(type=n) for n in ('AutoContrast', 'Invert', 'Equalize')),
    [
        dict(type='NumpyToPIL'),
        dict(type='torchvision/RandomResizedCrop', size=32),
        dict(type='torchvision/ColorJitter', brightness=0.4),
        dict(type='PILToNumpy'),
    ],
]  # fmt: skip
ROWS = [
    *(Row('mmengine', t, marks=180) for t in (*MMCV, *MMCV_LISTS)),
    *(Row('mmengine', t) for t in MMCV_COLOURS),
    *(Row('mmdet', t, marks=180) for t in MMDET),
    *(Row('mmdet', t, marks=180, masks=False) for t in MMDET_BOXES),
    *(Row('mmdet', t) for t in MMDET_COLOURS),
    Row('mmdet', CENTER_CROP_PAD, masks=False, dtype=np.float32, marks=180),
    Row('mmdet', dict(type='Mosaic', img_scale=SCALE), 3, masks=False, marks=180),
    Row('mmdet', dict(type='Mosaic', img_scale=SCALE, prob=0.5), 3, masks=False),
    Row(
        'mmdet',
        dict(type='MixUp', img_scale=SCALE, ratio_range=(0.8, 1.2), pad_val=0),
        1,
        masks=False,
        marks=90,
    ),
    Row('mmdet', dict(type='CopyPaste'), 1),
    Row('mmdet', dict(type='CopyPaste', paste_by_box=True), 1, masks=False, marks=180),
    *(Row('mmseg', t, marks=180) for t in MMSEG),
    *(Row('mmseg', t) for t in MMSEG_COLOURS),
    Row('mmseg', dict(type='RandomMosaic', prob=0.7, img_scale=SCALE), 3, marks=180),
    *(Row('mmpretrain', t) for t in MMPRETRAIN),
]


def known(row: Row) -> bool:
    """Whether the release of the host at hand has the transform."""
    if row.host == 'mmengine':
        return True
    # mmir first: it provides the operators that mmcv lacks if not compiled
    importlib.import_module('mmir')
    registry = importlib.import_module(f'{row.host}.registry').TRANSFORMS
    importlib.import_module(f'{row.host}.datasets.transforms')
    listed = row.transforms if isinstance(row.transforms, list) else [row.transforms]
    names = [t['type'] for t in listed]
    # mmdet 3.3 leaves the library behind `Corrupt` to the user
    missing = 'Corrupt' in names and find_spec('imagecorruptions') is None
    return not missing and all(registry.get(name) for name in names)
