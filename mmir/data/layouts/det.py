"""Layouts of detection datasets with an infrared camera, one entry per dataset.

An entry is all that a converter (`tools/dataset_converters`) and a dataset class
(`mmir.det.datasets`) need to know about a dataset. docs/datasets_detection.md says
which facts come from the owners' pages and which from memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mmir.data.layouts.flir import FLIR_CLASSES
from mmir.utils.files import few

JSON_FOLDER = 'coco'
"""Folder of the converted labels, relative to the root of a dataset."""


@dataclass(frozen=True)
class DetLayout:
    """Layout of a detection dataset.

    Paths are relative to the root. They may contain `{split}`, and `{folder}` and
    `{name}` of an image key (that of 'set00/V000/I00001' is 'set00/V000').

    Attributes:
        name (str): Common name of the dataset.
        tool (str): Name of its converter.
        classes (tuple[str, ...]): Classes in the official order.
        palette (tuple[tuple[int, int, int], ...]): RGB color of each class.
        splits (Mapping[str, int]): Published number of images (pairs) of each split, 0
            if there is no official split.
        images (Mapping[str, str]): Modality -> path of an image.
        labels (Mapping[str, str]): Modality the labels were drawn on -> path of a label
            file. Registered pairs share one.
        source (str): Where to get the data.
        roots (tuple[str, ...]): Outer folders that archives may add.
        aliases (Mapping[str, str]): Other spellings of classes, in the form of
            :func:`plain_name`.
        ignored (tuple[str, ...]): Labels that are neither object nor background:
            detections there do not count as false positives.
        dropped (tuple[str, ...]): Labels that are left out.
        border (int): Width in pixels of the blank border of the images; converted data
            has none.
    """

    name: str
    tool: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    splits: Mapping[str, int]
    images: Mapping[str, str]
    labels: Mapping[str, str]
    source: str
    roots: tuple[str, ...] = ('',)
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    border: int = 0

    def find(self, root: str | Path) -> str | None:
        """Find the folder that holds the data.

        Args:
            root (str | Path): Root given by the user.

        Returns:
            str | None: Path relative to `root`, '' for `root` itself; None if there is
            no image folder.
        """
        for inner in self.roots:
            for split in self.splits:
                for template in self.images.values():
                    fixed = template.format(split=split, folder='{', name='{')
                    folder = PurePosixPath(fixed.partition('{')[0] + '_').parent
                    if (Path(root) / inner / folder).is_dir():
                        return inner
        return None

    def place(self, template: str, split: str, key: str) -> str:
        """Fill in a path template.

        Args:
            template (str): A path of `images` or `labels`.
            split (str): Name of a split.
            key (str): Name of the image without suffix, including variable folders.

        Returns:
            str: Path relative to the folder that :meth:`find` found.
        """
        path = PurePosixPath(key)
        return template.format(split=split, folder=path.parent, name=path.name)

    def json_name(self, split: str, labels: str | None = None) -> str:
        """Get the name of the converted label file.

        Args:
            split (str): Name of a split.
            labels (str, optional): Modality the labels were drawn on. Default: the
                first.

        Returns:
            str: Such as 'train.json', or 'train_ir.json' if there are several.
        """
        if len(self.labels) == 1:
            return f'{split}.json'
        return f'{split}_{labels or next(iter(self.labels))}.json'


def plain_name(name: str) -> str:
    """Normalize a class name for comparison.

    Args:
        name (str): Such as 'Freight_Car'.

    Returns:
        str: Such as 'freight car'.
    """
    return ' '.join(name.replace('_', ' ').split()).lower()


def command(layout: DetLayout, root: str | Path) -> str:
    """Get the command that converts a dataset.

    Args:
        layout (DetLayout): The dataset.
        root (str | Path): Root of the dataset.

    Returns:
        str: A shell command.
    """
    return f'python tools/dataset_converters/{layout.tool}.py {root}'


def absent_message(layout: DetLayout, root: str | Path) -> str:
    """Message for absent data: what is expected, and where to get it.

    Args:
        layout (DetLayout): The dataset.
        root (str | Path): The folder that was searched.

    Returns:
        str: A message of several lines.
    """
    root = Path(root)
    there = few(sorted(p.name for p in root.iterdir()), 8) if root.is_dir() else ''
    found = f'It holds: {there or "nothing"}.'
    if not root.is_dir():
        found = 'It does not exist.'
    split = next(iter(layout.splits))
    shown = [*layout.images.values(), *layout.labels.values()]
    paths = [f'  {root}/{layout.place(path, split, "*")}' for path in shown]
    lines = [
        f'no {layout.name} data in {root}',
        found,
        f'Expected ({split}):',
        *dict.fromkeys(paths),
        layout.source,
        f'Then check and convert it: {command(layout, root)} --check',
    ]
    return '\n'.join(lines)


def unconverted_message(layout: DetLayout, root: str | Path, ann_file: str) -> str:
    """Message for absent converted labels: the reason and the command to run.

    Args:
        layout (DetLayout): The dataset.
        root (str | Path): Root of the dataset.
        ann_file (str): The file that was looked for.

    Returns:
        str: A message of several lines.
    """
    if layout.find(root) is None:
        return f'{ann_file} not found: {absent_message(layout, root)}'
    call = command(layout, root)
    return (
        f'{ann_file} not found: the labels of {layout.name} must be converted once. '
        f'Run\n  {call} --check\n  {call}'
    )


def lacking_message(
    layout: DetLayout, root: str | Path, names: list[str], total: int
) -> str:
    """Message for missing files: which, how many, and what to do.

    Args:
        layout (DetLayout): The dataset.
        root (str | Path): Root of the dataset.
        names (list[str]): The missing files.
        total (int): Number of files expected.

    Returns:
        str: A message of several lines.
    """
    call = command(layout, root)
    return (
        f'{layout.name} in {root} lacks {len(names)} of {total} images: {few(names)}.\n'
        'Unpack or download the archives again. This lists what is missing:\n'
        f'  {call} --check\nTo continue without these pairs, convert the rest:\n'
        f'  {call} --drop'
    )


_PERSON, _BICYCLE, _CAR = (220, 20, 60), (119, 11, 32), (0, 0, 142)
_BUS, _TRUCK, _OTHER = (0, 60, 100), (0, 0, 70), (0, 80, 100)

FLIR_ALIGNED = DetLayout(
    name='FLIR-aligned',
    tool='flir_aligned',
    classes=FLIR_CLASSES,
    palette=(_PERSON, _BICYCLE, _CAR),
    splits={'train': 4129, 'val': 1013},
    images={
        'rgb': 'JPEGImages/{name}_RGB.jpg',
        'ir': 'JPEGImages/{name}_PreviewData.jpeg',
    },
    labels={'ir': 'Annotations/{name}_PreviewData.xml'},
    roots=('align/', ''),
    dropped=('dog',),
    source=(
        'FLIR-aligned is published with "Multispectral Fusion for Object Detection '
        'with Cyclic Fuse-and-Refine Blocks" (Zhang et al., ICIP 2020)'
    ),
)

LLVIP = DetLayout(
    name='LLVIP',
    tool='llvip',
    classes=('person',),
    palette=(_PERSON,),
    splits={'train': 12025, 'test': 3463},
    images={
        'rgb': 'visible/{split}/{name}.jpg',
        'ir': 'infrared/{split}/{name}.jpg',
    },
    labels={'ir': 'Annotations/{name}.xml'},
    roots=('', 'LLVIP/'),
    source='LLVIP is free for non-commercial use: https://bupt-ai-cz.github.io/LLVIP/',
)

M3FD = DetLayout(
    name='M3FD',
    tool='m3fd',
    classes=('People', 'Car', 'Bus', 'Motorcycle', 'Lamp', 'Truck'),
    palette=(_PERSON, _CAR, _BUS, (0, 0, 230), (250, 170, 30), _TRUCK),
    splits={'train': 0, 'val': 0},
    images={'rgb': 'Vis/{name}.png', 'ir': 'Ir/{name}.png'},
    labels={'ir': 'Annotation/{name}.xml'},
    roots=('', 'M3FD_Detection/'),
    source='M3FD is linked from https://github.com/JinyuanLiu-CV/TarDAL',
)

KAIST = DetLayout(
    name='KAIST',
    tool='kaist',
    classes=('person',),
    palette=(_PERSON,),
    splits={'train': 25086, 'test': 2252},
    images={
        'rgb': 'images/{folder}/visible/{name}.jpg',
        'ir': 'images/{folder}/lwir/{name}.jpg',
    },
    labels={'ir': 'annotations-xml-new-sanitized/{folder}/{name}.xml'},
    roots=('', 'kaist-cvpr15/', 'kaist-rgbt/'),
    ignored=('people', 'person?', 'person?a', 'cyclist'),
    source='KAIST is linked from https://github.com/SoonminHwang/rgbt-ped-detection',
)

HIT_UAV = DetLayout(
    name='HIT-UAV',
    tool='hituav',
    classes=('Person', 'Car', 'Bicycle', 'OtherVehicle'),
    palette=(_PERSON, _CAR, _BICYCLE, _OTHER),
    splits={'train': 2029, 'val': 290, 'test': 579},
    images={'ir': '{split}/{name}.jpg'},
    labels={'ir': 'annotations/{split}.json'},
    roots=('normal_json/', ''),
    ignored=('dontcare',),
    source=(
        'HIT-UAV is CC BY 4.0: '
        'https://github.com/suojiashun/HIT-UAV-Infrared-Thermal-Dataset'
    ),
)

DRONE_VEHICLE = DetLayout(
    name='DroneVehicle',
    tool='dronevehicle',
    classes=('car', 'truck', 'bus', 'van', 'freight car'),
    palette=(_CAR, _TRUCK, _BUS, _OTHER, (106, 0, 228)),
    splits={'train': 17990, 'val': 1469, 'test': 8980},
    images={
        'rgb': '{split}/{split}img/{name}.jpg',
        'ir': '{split}/{split}imgr/{name}.jpg',
    },
    labels={
        'ir': '{split}/{split}labelr/{name}.xml',
        'rgb': '{split}/{split}label/{name}.xml',
    },
    roots=('', 'DroneVehicle/'),
    aliases={'feright car': 'freight car', 'feright': 'freight car', 'truvk': 'truck'},
    dropped=('*', ''),
    border=100,
    source='DroneVehicle is linked from https://github.com/VisDrone/DroneVehicle',
)
