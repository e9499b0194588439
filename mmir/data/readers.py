"""Readers of detection labels: VOC and other XML, bbGt and YOLO text files, lists."""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mmir.data.images import SUFFIXES
from mmir.utils.errors import AnnotationError
from mmir.utils.files import decode, read_lines, read_text

LABEL_SUFFIXES = ('.xml', '.txt')
"""Suffixes of label files, in lowercase."""

_EDGES = ('xmin', 'ymin', 'xmax', 'ymax')
_CORNERS = tuple(f'{axis}{k}' for k in range(1, 5) for axis in 'xy')
_FLAGS = {'1': True, 'true': True} | dict.fromkeys(
    ('', '0', 'false', 'unspecified'), False
)
_XML_ENCODING = re.compile(rb'\s*<\?xml[^>]*?encoding\s*=\s*["\']([\w.-]+)')

Size = tuple[int, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Labeled:
    """A label of one object.

    Attributes:
        name (str): Class name as written in the file.
        box (tuple | None): Left, top, width, height in pixels; None if the file gives
            no box.
        crowd (bool): Whether the file marks it as a crowd or as ignored.
    """

    name: str
    box: Box | None
    crowd: bool = False


def to_number(value: object) -> int | float:
    """Convert a number, or a number written as text.

    Args:
        value (object): Value of a label file.

    Returns:
        int | float: The number.

    Raises:
        ValueError: It is not a number.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(f'{value!r} is not a number')
    number = float(value)
    return int(number) if number.is_integer() else number


def to_flag(value: object) -> bool:
    """Convert a flag, which tools write as a number, a boolean or text.

    Args:
        value (object): Value of a label file; 'Unspecified' and '' are False.

    Returns:
        bool: The flag.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str):
        value = _FLAGS.get(value.strip().lower(), value)
    if value not in (0, 1):
        raise ValueError(f'{value!r}, which is neither 0 nor 1')
    return bool(value)


def without_suffix(name: str) -> str:
    """Remove the suffix of an image or label file from a name.

    Only such a suffix: what follows the dot of `f.2021` belongs to the name.

    Args:
        name (str): File name, possibly with folders.

    Returns:
        str: The name without its suffix.
    """
    known = (*SUFFIXES, *LABEL_SUFFIXES)
    end = next((end for end in known if name.lower().endswith(end)), '')
    return name[: len(name) - len(end)]


def read_names(path: str | Path) -> list[str]:
    """Read the list of a split.

    Args:
        path (str | Path): Text file with one name per line, with or without the suffix
            of the image. Names may contain spaces and dots.

    Returns:
        list[str]: Names in the order of the file, without suffix.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is in an unknown encoding.
    """
    return [without_suffix(line) for line in read_lines(path)]


def _decode_xml(content: bytes, path: str | Path) -> str:
    """Decode by byte order mark, then by the declared encoding, then as UTF-8."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode('utf-16', 'replace')
    found = _XML_ENCODING.match(content)
    name = found[1].decode().lower() if found else 'utf-8'
    if name.startswith('utf'):
        # UTF-16 declared in single bytes is a slip of .NET writers: it is UTF-8
        return content.decode('utf-8-sig', 'replace')
    # GB18030 contains both, and these names are used for its characters
    name = 'gb18030' if name in ('gb2312', 'gbk') else name
    try:
        return content.decode(name)
    except (LookupError, UnicodeDecodeError):
        return decode(content, path)


def parse_xml(path: str | Path) -> ElementTree.Element:
    """Parse an XML file, refusing document type declarations.

    A document type can define entities that expand to gigabytes or read other files; no
    label file needs one.

    Args:
        path (str | Path): File in the encoding it declares, by default UTF-8.
            Characters of another encoding are accepted where they do no harm, such as
            in the path of the annotator's own disk.

    Returns:
        Element: Root element.

    Raises:
        AnnotationError: The file is not XML, is truncated, declares a document type, or
            has a name in another encoding than it says.
    """
    text = _decode_xml(Path(path).read_bytes(), path).lstrip()
    for mark in ('<!DOCTYPE', '<!ENTITY', '\0'):
        if mark in text:
            raise AnnotationError(
                f'{path} is refused: {mark!r} does not belong in a label file and can '
                'make a reader expand or load anything'
            )
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise AnnotationError(f'{path} is not a complete XML file: {error}') from error
    for node in root.iter():
        if node.tag in ('name', 'filename') and '\ufffd' in (node.text or ''):
            line = text[: text.index('\ufffd')].count('\n') + 1
            raise AnnotationError(
                f'{path}:{line} is not in the encoding it declares (UTF-8 if none), so '
                f'{node.tag} {node.text!r} cannot be read. Save the file as UTF-8'
            )
    return root


def _numbers(node: ElementTree.Element, keys: tuple[str, ...]) -> list[float] | None:
    """Read the numbers below a node; None if one of them is missing."""
    texts = [node.findtext(key) for key in keys]
    return None if None in texts else [float(text or '') for text in texts]


def _size(root: ElementTree.Element) -> Size | None:
    """Read the image size; None for the zeros and words that annotators leave there."""
    try:
        width, height = (
            int(float(root.findtext(f'size/{side}') or 0))
            for side in ('width', 'height')
        )
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _box(node: ElementTree.Element) -> Box | None:
    """Read the box of an object, or the box around its polygon."""
    for shape in (node.find('polygon'), node.find('bndbox')):
        if shape is None:
            continue
        points = _numbers(shape, _CORNERS)
        if points:
            xs, ys = points[::2], points[1::2]
            return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
        edges = _numbers(shape, _EDGES)
        if edges:
            left, top, right, bottom = edges
            return left, top, right - left, bottom - top
        sides = _numbers(shape, ('x', 'y', 'w', 'h'))
        if sides:
            return tuple(sides)
    return None


def read_xml(path: str | Path) -> tuple[Size | None, list[Labeled]]:
    """Read an XML label file.

    A box is one of

    - `bndbox` with xmin, ymin, xmax, ymax, taken as the edges of the box
    - `bndbox` with x, y, w, h
    - `polygon` with x1, y1 to x4, y4, of which the bounding box is taken

    Args:
        path (str | Path): XML file.

    Returns:
        tuple: (width, height), None if not given in the file, and the labels.

    Raises:
        AnnotationError: The file is broken or refused, or a box is not numeric.
    """
    root = parse_xml(path)
    labels = []
    try:
        for node in root.iter('object'):
            name = (node.findtext('name') or '').strip()
            labels.append(Labeled(name, _box(node)))
    except ValueError as error:
        raise AnnotationError(f'{path}: object[{len(labels)}]: {error}') from error
    return _size(root), labels


def read_bbgt(path: str | Path) -> tuple[Size | None, list[Labeled]]:
    """Read a bbGt text file (Piotr's toolbox, version 3).

    A line is `label left top width height occluded ... ignore angle`, 12 columns; the
    first line begins with %.

    Args:
        path (str | Path): Text file.

    Returns:
        tuple: None (the format has no image size) and the labels; those with the ignore
        column set are crowds.

    Raises:
        AnnotationError: A line has too few columns or is not numeric.
    """
    labels = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        columns = line.split()
        if not columns or columns[0].startswith('%'):
            continue
        try:
            left, top, width, height = (float(text) for text in columns[1:5])
            ignore = float(columns[10])
        except (ValueError, IndexError):
            raise AnnotationError(
                f'{path}:{number}: expected "label left top width height" and 7 more '
                f'columns, got {line!r}'
            ) from None
        labels.append(Labeled(columns[0], (left, top, width, height), bool(ignore)))
    return None, labels


def read_voc(path: str | Path) -> tuple[str | None, tuple[int, int] | None, list[dict]]:
    """Read a Pascal VOC label file.

    Args:
        path (str | Path): XML file.

    Returns:
        tuple: Image file name and (width, height), each None if not given in the file,
        and objects with 'name', 'bbox' (COCO) and 'iscrowd'.

    Raises:
        AnnotationError: The file is broken or an object is incomplete.
    """
    root = parse_xml(path)
    objects = []
    for number, node in enumerate(root.iter('object')):
        name = (node.findtext('name') or '').strip()
        try:
            x1, y1, x2, y2 = (float(node.findtext(f'bndbox/{c}') or '') for c in _EDGES)
            crowd = to_flag(node.findtext('difficult') or '')
        except ValueError as error:
            raise AnnotationError(
                f'{path}: object[{number}] needs name and bndbox with '
                f'{", ".join(_EDGES)}, and difficult of 0 or 1: {error}'
            ) from None
        if not name:
            raise AnnotationError(f'{path}: object[{number}] needs name and bndbox')
        objects.append(
            {
                'name': name,
                'bbox': [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1],
                'iscrowd': int(crowd),
            }
        )
    return root.findtext('filename'), _size(root), objects


def read_yolo(path: str | Path, num_classes: int) -> np.ndarray:
    """Read a YOLO label file.

    Args:
        path (str | Path): Text file.
        num_classes (int): Class numbers must be below this.

    Returns:
        np.ndarray: (N, 5) float64, class and normalized center, width, height.

    Raises:
        AnnotationError: A line does not have five numbers, an unknown class, or pixels
            instead of relative coordinates.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = [float(text) for text in line.split()]
        except ValueError:
            row = []
        if len(row) != 5:
            raise AnnotationError(
                f'{path}:{number}: expected "class x y width height", got {line!r}'
                + (' (polygons are not boxes)' if len(row) > 6 else '')
            )
        if row[0] not in range(num_classes):
            raise AnnotationError(
                f'{path}:{number}: class {row[0]:g}, but there are {num_classes} class '
                'names (numbers start at 0)'
            )
        if max(row[1:]) > 2:
            raise AnnotationError(
                f'{path}:{number}: {line!r} is not relative to the image size (0 to 1)'
            )
        rows.append(row)
    return np.array(rows, np.float64).reshape(-1, 5)


def yolo_boxes(rows: np.ndarray, width: int, height: int) -> np.ndarray:
    """Convert normalized center boxes to COCO boxes.

    Args:
        rows (np.ndarray): (N, 4), center x, y, width, height relative to the image.
        width (int): Image width in pixels.
        height (int): Image height in pixels.

    Returns:
        np.ndarray: (N, 4), left, top, width, height in pixels.
    """
    scale = np.array([width, height], np.float64)
    center, size = rows[:, :2] * scale, rows[:, 2:] * scale
    return np.concatenate([center - size / 2, size], 1)


READERS: dict[str, Callable[[str | Path], tuple[Size | None, list[Labeled]]]] = {
    '.xml': read_xml,
    '.txt': read_bbgt,
}
"""Readers of the label files of public datasets, by suffix."""
