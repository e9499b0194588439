"""JPEG files that decode although their data is damaged.

After a flipped bit or a hole, libjpeg goes on with wrong pixels and only prints a
warning to the standard error of the process, without the name of the file. So the files
are decoded in child processes that print the number of each file before it. They decode
at an eighth of the size, which reads all the data but is several times as fast.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

_CHILD = """
import os, sys
import cv2, numpy
cv2.setNumThreads(1)
for number, path in enumerate(sys.stdin.buffer.read().split(b'\\0')):
    os.write(2, b'\\0%d\\0' % number)
    try:
        cv2.imdecode(numpy.fromfile(path, numpy.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    except (OSError, cv2.error):
        pass
"""
_WARNING = re.compile(
    '(Corrupt JPEG data|Premature end of JPEG|Inconsistent progression).*'
)
_PADDING = re.compile('Corrupt JPEG data: ([0-9]+) extraneous bytes before marker 0xd9')
_BATCH = 100, 400  # files of one child, whose start costs as much as some 100 files


def damaged_jpegs(
    paths: Sequence[str], workers: int = 4, progress: bool = False
) -> dict[str, str]:
    """Find JPEG files whose data is damaged.

    Nearly all damage that changes more than a few pixels is found; a change after which
    the data still ends in the right place is not.

    Args:
        paths (Sequence[str]): Local image files; other formats are passed over.
        workers (int): Number of child processes at a time.
        progress (bool): Show a progress bar.

    Returns:
        dict[str, str]: Damaged file -> warning of libjpeg.
    """
    files = [path for path in dict.fromkeys(paths) if _is_jpeg(path)]
    if not files:
        return {}
    size = min(max(-(-len(files) // workers), _BATCH[0]), _BATCH[1])
    batches = [files[k : k + size] for k in range(0, len(files), size)]
    found: dict[str, str] = {}
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(
            total=len(files), desc='JPEG data', disable=not progress, leave=False
        ) as bar,
    ):
        for batch, warnings in zip(batches, pool.map(_decode, batches), strict=True):
            found |= warnings
            bar.update(len(batch))
    return {path: text for path, text in found.items() if not _is_padding(path, text)}


def _is_jpeg(path: str) -> bool:
    """Tell whether a local file exists and starts like a JPEG file."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, 'rb') as file:
            return file.read(3) == b'\xff\xd8\xff'
    except OSError:
        return False


def _decode(files: Sequence[str]) -> dict[str, str]:
    """Decode files in a child process; return the warnings."""
    child = subprocess.run(
        [sys.executable, '-c', _CHILD],
        input=b'\0'.join(map(os.fsencode, files)),
        stderr=subprocess.PIPE,
        check=False,
    )
    before, *parts = child.stderr.split(b'\0')
    if not parts:
        raise RuntimeError(f'OpenCV does not start: {before.decode(errors="replace")}')
    found = {}
    for number, said in zip(parts[::2], parts[1::2], strict=True):
        if warning := _WARNING.search(said.decode(errors='replace')):
            found[files[int(number)]] = warning.group().strip()
    last = int(parts[-2])
    if child.returncode:
        found[files[last]] = 'the decoder crashed'
        if files[last + 1 :]:
            found |= _decode(files[last + 1 :])
    return found


def _is_padding(path: str, warning: str) -> bool:
    """Tell whether a warning is about zeros before the end, as some cameras write."""
    match = _PADDING.match(warning)
    if match is None:
        return False
    data = Path(path).read_bytes()
    end = data.rfind(b'\xff\xd9')
    return not any(data[end - int(match.group(1)) : end])
