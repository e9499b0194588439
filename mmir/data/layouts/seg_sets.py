"""Layouts and classes of public RGB+thermal segmentation and salient-object datasets.

Class names, their order and palettes are those of the datasets' pages or of public
readers. No copy of the datasets was at hand: facts from memory are marked as such.
"""

from pathlib import PurePosixPath

from mmir.data.layouts.seg import LABEL, SegLayout, Split
from mmir.data.pairing import PairRule

_MFNET_CLASSES = (
    'unlabelled', 'car', 'person', 'bike', 'curve', 'car_stop', 'guardrail',
    'color_cone', 'bump',
)  # fmt: skip
_MFNET_PALETTE = (
    (0, 0, 0), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 192), (128, 128, 0),
    (64, 64, 128), (192, 128, 128), (192, 64, 0),
)  # fmt: skip

MSRS = SegLayout(
    title='MSRS',
    folders={
        'rgb': '{split}/vi',
        'ir': '{split}/ir',
        LABEL: '{split}/Segmentation_labels',
    },
    splits={'train': Split('train', 1083), 'test': Split('test', 361)},
    classes=_MFNET_CLASSES,
    palette=_MFNET_PALETTE,
    source='MSRS is at github.com/Linfeng-Tang/MSRS',
)

# From memory: split sizes, and that the training list names mirrored copies.
MFNET = SegLayout(
    title='MFNet',
    folders={'rgb': 'images', 'ir': 'images', LABEL: 'labels'},
    splits={
        'train': Split('train', 784), 'val': Split('val', 392),
        'test': Split('test', 393), 'test_day': Split('test_day'),
        'test_night': Split('test_night'),
    },
    classes=_MFNET_CLASSES,
    palette=_MFNET_PALETTE,
    source='MFNet (ir_seg_dataset) is at mi.t.u-tokyo.ac.jp/static/projects/'
    'mil_multispectral',
    listed='{split}.txt',
    copies='_flip',
    planes=4,
)  # fmt: skip

# 597 and 288 are from memory. The authors' page says 606 and 288, of 894.
PST900 = SegLayout(
    title='PST900',
    folders={
        'rgb': '{split}/rgb',
        'ir': '{split}/thermal',
        'ir16': '{split}/thermal_raw',
        'depth': '{split}/depth',
        LABEL: '{split}/labels',
    },
    splits={'train': Split('train', 597), 'test': Split('test', 288)},
    classes=(
        'background', 'fire_extinguisher', 'backpack', 'hand_drill', 'survivor',
    ),
    palette=((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)),
    source='PST900 is at github.com/ShreyasSkandanS/pst900_thermal_rgb',
)  # fmt: skip

# Split sizes from memory; classes and palette from public readers of the dataset.
FMB = SegLayout(
    title='FMB',
    folders={
        'rgb': '{split}/Visible',
        'ir': '{split}/Infrared',
        LABEL: '{split}/Label',
    },
    splits={'train': Split('train', 1220), 'test': Split('test', 280)},
    classes=(
        'road', 'sidewalk', 'building', 'traffic_lamp', 'traffic_sign', 'vegetation',
        'sky', 'person', 'car', 'truck', 'bus', 'motorcycle', 'bicycle', 'pole',
    ),
    palette=(
        (228, 228, 179), (133, 57, 181), (177, 162, 67), (50, 178, 200),
        (199, 45, 132), (84, 172, 66), (79, 73, 179), (166, 99, 76), (253, 121, 66),
        (91, 165, 137), (152, 97, 155), (140, 153, 105), (158, 215, 222),
        (90, 113, 135),
    ),
    source='FMB is at github.com/JinyuanLiu-CV/SegMiF',
    reduce_zero_label=True,
)  # fmt: skip


def _frame(folder: str, letter: str, label: str) -> str:
    """Get the frame of a camera for a label map; its last letter tells the camera."""
    stem = PurePosixPath(label).stem
    return PairRule(folder=('label', folder), stem=(stem[-1], letter))(label)


def _visible(label: str) -> str:
    return _frame('visible', 'v', label)


def _infrared(label: str) -> str:
    return _frame('infrared', 'i', label)


# Sizes are in labeled frames, known only for the whole dataset (3,545).
MVSEG = SegLayout(
    title='MVSeg',
    folders={'rgb': 'data', 'ir': 'data', LABEL: 'data'},
    splits={
        name: Split(name) for name in ('train', 'val', 'test', 'test_day', 'test_night')
    },
    classes=(
        'Background', 'Car', 'Bus', 'Motorcycle', 'Bicycle', 'Pedestrian',
        'Motorcyclist', 'Bicyclist', 'Cart', 'Bench', 'Umbrella', 'Box', 'Pole',
        'Street_lamp', 'Traffic_light', 'Traffic_sign', 'Car_stop', 'Color_cone',
        'Sky', 'Road', 'Sidewalk', 'Curb', 'Vegetation', 'Terrain', 'Building',
        'Ground',
    ),
    palette=(
        (0, 0, 0), (0, 0, 142), (0, 60, 100), (0, 0, 230), (119, 11, 32), (255, 0, 0),
        (0, 139, 139), (255, 165, 150), (192, 64, 0), (211, 211, 211), (100, 33, 128),
        (117, 79, 86), (153, 153, 153), (190, 122, 222), (250, 170, 30), (220, 220, 0),
        (222, 142, 35), (205, 155, 155), (70, 130, 180), (128, 64, 128),
        (244, 35, 232), (0, 0, 70), (107, 142, 35), (152, 251, 152), (70, 70, 70),
        (110, 80, 100),
    ),
    source='MVSeg is at github.com/jiwei0921/MVSS-Baseline',
    listed='{split}.txt',
    entry='{}/label/',
    rules={'rgb': _visible, 'ir': _infrared},
)  # fmt: skip

# 11,371 pairs in all; split sizes are unknown.
SEMANTICRT = SegLayout(
    title='SemanticRT',
    folders={'rgb': 'rgb', 'ir': 'thermal', LABEL: 'labels'},
    splits={
        name: Split(name)
        for name in (
            'train', 'val', 'test', 'test_day', 'test_night', 'test_mc', 'test_mo',
            'test_hard',
        )
    },
    classes=(
        'background', 'car_stop', 'bike', 'bicyclist', 'motorcycle', 'motorcyclist',
        'car', 'tricycle', 'traffic_light', 'box', 'pole', 'curve', 'person',
    ),
    palette=(
        (0, 0, 0), (72, 61, 39), (0, 0, 255), (148, 0, 211), (128, 128, 0),
        (64, 64, 128), (0, 139, 139), (131, 139, 139), (192, 64, 0), (126, 192, 238),
        (244, 164, 96), (211, 211, 211), (205, 155, 155),
    ),
    source='SemanticRT is at github.com/jiwei0921/SemanticRT',
    listed='{split}.txt',
)  # fmt: skip


def _saliency(title: str, splits: dict[str, Split]) -> SegLayout:
    """Layout of a salient-object dataset; the name of the thermal folder varies."""
    return SegLayout(
        title=title,
        folders={
            'rgb': '{split}/RGB',
            'ir': ('{split}/T', '{split}/thermal'),
            LABEL: '{split}/GT',
        },
        splits=splits,
        classes=('background', 'salient'),
        palette=((0, 0, 0), (255, 255, 255)),
        source=f'{title} is listed at github.com/lz118/RGBT-Salient-Object-Detection',
        binary=True,
    )


VT821 = _saliency('VT821', {'test': Split('.', 821)})
VT1000 = _saliency('VT1000', {'test': Split('.', 1000)})
VT5000 = _saliency(
    'VT5000', {'train': Split('Train', 2500), 'test': Split('Test', 2500)}
)

SEG_SETS = {
    layout.title: layout
    for layout in (
        MSRS, MFNET, PST900, FMB, MVSEG, SEMANTICRT, VT821, VT1000, VT5000,
    )
}  # fmt: skip
"""All datasets by name."""
