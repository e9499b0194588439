"""Networks that share the numbered tensor names of the official YOLO files.

Their files differ in nothing but these names and shapes, so they are easily mixed up.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Group of networks that a few tensor names give away.

    Attributes:
        name: What a file of it is, for messages.
        signs: Regular expressions, each of which matches the name of a tensor.
        advice: What to do with such a file.
    """

    name: str
    signs: tuple[str, ...]
    advice: str

    def has(self, names: str) -> bool:
        """Whether all signs are found in `names`, one name a line."""
        return all(re.search(sign, names, re.MULTILINE) for sign in self.signs)


_NOT_HERE = 'this project has no such network'
_DETECTION = 'convert the detection checkpoint of the same size'
_TOOL = 'convert it with tools/model_converters/{}.py'

YOLOV5, YOLOV7 = 'a YOLOv5', 'a YOLOv7'

# the first that fits: networks of later rows share the signs of earlier ones
FAMILIES = (
    Family('a classification network', (r'\.linear\.weight$',), _DETECTION),
    Family(
        'a YOLOv8 or later (or a YOLOv5u), with an anchor-free head',
        (r'\.dfl\.|^model\.\d+\.(one2one_)?cv[23]\.\d\.',),
        f'{_NOT_HERE}; a YOLOv5 of releases 6.0 to 7.0 fits (yolov5s.pt, not ..u.pt)',
    ),
    Family('a segmentation network', (r'^model\.\d+\.proto\.',), _DETECTION),
    Family(
        'a YOLOv5 of release 5.0 or earlier, with a Focus stem',
        (r'^model\.0\.conv\.conv\.weight$',),
        f'{_NOT_HERE}; a checkpoint of releases 6.0 to 7.0 fits',
    ),
    Family(
        'a network for 1280 px with four levels (P6)',
        (r'^model\.\d+\.m\.3\.weight$',),
        f'{_NOT_HERE}; a checkpoint for 640 px, with three levels, fits',
    ),
    Family(YOLOV5, (r'^model\.2\.cv3\.conv\.',), _TOOL.format('yolov5')),
    Family(
        YOLOV7, (r'^model\.2\.conv\.', r'^model\.3\.conv\.'), _TOOL.format('yolov7')
    ),
)


def refuse_others(names: Iterable[str], wanted: str) -> None:
    """Raise an error if tensor names are those of another known family.

    Args:
        names (iterable of str): Names of the tensors of an official file.
        wanted (str): Name of the family that is wanted.

    Raises:
        ValueError: The names are those of another family; says which, and what to do.
    """
    lines = '\n'.join(names)
    for family in FAMILIES:
        if family.has(lines):
            if family.name != wanted:
                raise ValueError(f'it is {family.name}, not {wanted}: {family.advice}')
            return
