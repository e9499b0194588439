"""TIFF files of any sample type, number of pages and tags, written by hand."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_KIND = {'u': 1, 'i': 2, 'f': 3}


def write_tiff(
    path: Path,
    pages: np.ndarray | Sequence[np.ndarray],
    order: str = '<',
    tags: Mapping[int, int] | Sequence[Mapping[int, int]] = (),
    packed: int | None = None,
) -> Path:
    """Write pages (H, W), uncompressed; `packed` is the bits of packed samples.

    `tags` are further tags of all pages, or a mapping for each page.
    """
    pages = [pages] if isinstance(pages, np.ndarray) else list(pages)
    extra = [tags] * len(pages) if isinstance(tags, Mapping) else list(tags)
    extra = extra or [{}] * len(pages)
    content = (b'II' if order == '<' else b'MM') + struct.pack(f'{order}H', 42)
    link = len(content)  # where the offset of the next page goes
    content += bytes(4)
    for img, more in zip(pages, extra, strict=True):
        place, data = len(content), _samples(img, order, packed)
        content += data + bytes(len(data) % 2)
        start = struct.pack(f'{order}I', len(content))
        content = content[:link] + start + content[link + 4 :]
        entries = {
            256: img.shape[1],
            257: img.shape[0],
            258: packed or 8 * img.itemsize,
            259: 1,
            262: 1,
            273: place,
            277: 1,
            278: img.shape[0],
            279: len(data),
            339: _KIND[img.dtype.kind],
            **more,
        }
        content += struct.pack(f'{order}H', len(entries))
        for tag, value in sorted(entries.items()):
            content += struct.pack(f'{order}HHII', tag, 4, 1, value)
        link = len(content)
        content += bytes(4)
    path.write_bytes(content)
    return path


def _samples(img: np.ndarray, order: str, packed: int | None) -> bytes:
    if packed is None:
        return img.astype(img.dtype.newbyteorder(order)).tobytes()
    bits = (img[..., None] >> np.arange(packed)[::-1]) & 1
    return np.packbits(bits.reshape(len(img), -1).astype(np.uint8), axis=1).tobytes()
