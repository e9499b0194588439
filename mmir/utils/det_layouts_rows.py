"""The rows of the detection data sets; see :class:`DetLayout`."""

from .det_layouts import DetLayout
from .flir_layout import FLIR_CLASSES

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
