"""Tags of TIFF files: pages, sample types, orientation.

An EXIF block is a TIFF file without pixels, so :func:`read_pages` reads it as well.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass

REDUCED, OLD_KIND, BITS, COMPRESSION, ORIENTATION = 254, 255, 258, 259, 274
SUB_IMAGES, SAMPLE_FORMAT = 330, 339
_CHUNKS = ((273, 279), (324, 325))
"""Offsets and lengths of the strips, and of the tiles."""

_WANTED = {
    *(REDUCED, OLD_KIND, BITS, COMPRESSION, ORIENTATION, SUB_IMAGES, SAMPLE_FORMAT),
    *(tag for pair in _CHUNKS for tag in pair),
}
_SIGNS = {b'II*\0': '<', b'MM\0*': '>', b'II+\0': '<', b'MM\0+': '>'}
_INTEGERS = {1: 'B', 3: 'H', 4: 'I', 13: 'I', 16: 'Q'}
_BEYOND = (struct.error, IndexError, OverflowError)  # of offsets beyond the file
_KINDS = {1: 'unsigned integer', 2: 'signed integer', 3: 'float'}

Page = dict[int, tuple[int, ...]]
"""Tag -> values, of the integer tags used here."""


@dataclass
class _Reader:
    """Numbers of a TIFF file; refuses files that make it read in circles."""

    data: bytes
    spent: int = 0

    def __post_init__(self) -> None:
        self.order = _SIGNS[self.data[:4]]
        self.big = b'+' in self.data[2:4]

    def read(self, types: str, place: int) -> tuple[int, ...]:
        """Read numbers of the given `struct` types."""
        self.spent += struct.calcsize(self.order + types)
        if self.spent > 4 * len(self.data) + 64:
            raise struct.error('more numbers than the file can hold')
        return struct.unpack_from(self.order + types, self.data, place)

    def page(self, start: int) -> tuple[Page, int]:
        """Read the page at an offset; also get the offset of the next, 0 if none."""
        (count,) = self.read('Q' if self.big else 'H', start)
        start += 8 if self.big else 2
        step, room, offset = (20, 8, 'Q') if self.big else (12, 4, 'I')
        page: Page = {}
        for entry in range(start, start + count * step, step):
            tag, kind, number = self.read(f'HH{offset}', entry)
            if tag not in _WANTED or kind not in _INTEGERS:
                continue
            with suppress(*_BEYOND):  # libtiff leaves out such a tag, too
                types, place = f'{number}{_INTEGERS[kind]}', entry + step - room
                if struct.calcsize(self.order + types) > room:
                    (place,) = self.read(offset, place)
                page[tag] = self.read(types, place)
        (following,) = self.read(offset, start + count * step)
        return page, following


def is_tiff(data: bytes) -> bool:
    """Tell whether a file starts like a TIFF file, classic or BigTIFF."""
    return data[:4] in _SIGNS


def read_pages(data: bytes) -> list[Page]:
    """Read the tags of all pages.

    Args:
        data (bytes): Content of a TIFF file or EXIF block.

    Returns:
        list[Page]: One for each page, up to the first that is broken.
    """
    if not is_tiff(data):
        return []
    reader, pages, seen = _Reader(data), [], set()
    with suppress(*_BEYOND):
        (start,) = reader.read(*('Q', 8) if reader.big else ('I', 4))
        while start and start not in seen:
            seen.add(start)
            page, start = reader.page(start)
            pages.append(page)
    return pages


def as_signed(data: bytes) -> bytes:
    """Declare unsigned samples as signed, for decoders that know only these.

    Args:
        data (bytes): Content of a TIFF file.

    Returns:
        bytes: The same file with another :data:`SAMPLE_FORMAT` of grayscale pages.
    """
    order = _SIGNS[data[:4]]
    head = order + ('HHQ' if b'+' in data[2:4] else 'HHI')
    for kind in (3, 4):
        entry = struct.pack(head, SAMPLE_FORMAT, kind, 1)
        unsigned, signed = (
            entry + struct.pack(order + _INTEGERS[kind], value) for value in (1, 2)
        )
        data = data.replace(unsigned, signed)
    return data


def full_pages(pages: list[Page]) -> list[int]:
    """Find the pages that are images of their own.

    Args:
        pages (list[Page]): All pages.

    Returns:
        list[int]: Indices of the pages that are neither smaller copies (thumbnails,
        overviews) nor transparency masks.
    """
    return [
        k
        for k, page in enumerate(pages)
        if not first(page, REDUCED, 0) & 5 and first(page, OLD_KIND, 1) != 2
    ]


def first(page: Page, tag: int, default: int) -> int:
    """Get the first value of a tag."""
    return (page.get(tag) or (default,))[0]


def is_whole(data: bytes, page: Page) -> bool:
    """Tell whether a file holds all pixel data of a page."""
    for offsets, lengths in _CHUNKS:
        if page.get(offsets) and page.get(lengths):
            ends = map(sum, zip(page[offsets], page[lengths], strict=False))
            return max(ends) <= len(data)
    return False


def describe_samples(page: Page) -> str:
    """Describe the samples of a page, such as '32-bit unsigned integer samples'."""
    kind = first(page, SAMPLE_FORMAT, 1)
    text = f'{first(page, BITS, 1)}-bit {_KINDS.get(kind, f"type-{kind}")} samples'
    packing = first(page, COMPRESSION, 1)
    return text if packing == 1 else f'{text} of compression {packing}'
