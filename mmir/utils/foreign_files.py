"""What a file is that was given as a checkpoint but is not one of torch.save."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

_AGAIN = 'the download or the copy failed: fetch the file again'
_MAGIC = bytes.fromhex('6cfc9c46f9206aa85019')  # of torch.save before version 1.6
_PICKLE = (
    '{what}, which cannot be read without running what it asks for. Save it again with '
    'the default of torch.save, where it was written or where code can do no harm (a '
    'container without network): python -c "import {modules}; '
    "torch.save({load}['state_dict'], 'plain.pth')\", without ['state_dict'] if it "
    'holds the bare weights'
)
# First bytes -> what it is, and what to do.
_SIGNATURES = {
    b'version https://git-lfs': 'a Git LFS pointer, not the file itself: `git lfs pull`'
    ' in its repository fetches it',
    b'\x89HDF': 'an HDF5 file, as Keras saves weights: convert them to torch first',
    b'\x1f\x8b': 'a gzip archive: unpack it and give the checkpoint inside',
    b'BZh': 'a bzip2 archive: unpack it and give the checkpoint inside',
    b'7z\xbc\xaf': 'a 7-Zip archive: unpack it and give the checkpoint inside',
    b'Rar!': 'a RAR archive: unpack it and give the checkpoint inside',
    b'GGUF': 'a GGUF file of a language model, not a checkpoint',
}


def is_safetensors(path: Path) -> bool:
    """Check whether a file begins like a safetensors file, whatever its name.

    Args:
        path: The file.
    """
    with path.open('rb') as file:
        start = file.read(9)
    size = int.from_bytes(start[:8], 'little')
    return len(start) == 9 and start[8:] == b'{' and size <= path.stat().st_size - 8


def foreign_format(path: Path) -> str | None:
    """Say what a file is that torch does not load as a checkpoint.

    Args:
        path: The file.

    Returns:
        The format and what to do, to follow 'it is'; None for a file of torch.save and
        for an unknown format.
    """
    with path.open('rb') as file:
        start = file.read(1024)
    if not start:
        return f'empty (0 bytes): {_AGAIN}'
    if not start.strip(b'\0'):
        return f'nothing but zeros at its beginning: {_AGAIN}'
    known = next((v for k, v in _SIGNATURES.items() if start.startswith(k)), None)
    if known:
        return known
    if start.startswith(b'PK\x03\x04') and zipfile.is_zipfile(path):
        try:
            return _of_zip(path)
        except Exception:  # a damaged archive can raise any
            return None
    if start[:1] == b'\x80' and start[1:2] <= b'\x05':
        return _of_pickle(path, start[1], of_torch=_MAGIC in start[:32])
    if start[:1] == b'\x08' and start[2:3] in b'\x12:':
        return 'an ONNX model: give the checkpoint it was exported from'
    if start[257:262] == b'ustar':
        return 'a tar archive: unpack it and give the checkpoint inside'
    return _of_text(start)


def _of_zip(path: Path) -> str | None:
    """Say what a zip archive is, unless torch.save wrote a plain one."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inside = {name.partition('/')[2]: name for name in names}
        if 'constants.pkl' in inside or any(n.startswith('code/') for n in inside):
            return (
                'a TorchScript archive, a compiled model: give the checkpoint it was '
                'made from'
            )
        if 'archive_format' in inside:
            return (
                'a program of torch.export, a compiled model: give the checkpoint it '
                'was made from'
            )
        if names and all(name.endswith('.npy') for name in names):
            return 'an archive of numpy arrays (.npz), not a checkpoint of torch'
        if 'data.pkl' not in inside:
            return f'a zip archive of {_few(names)}: unpack it and give the checkpoint'
        with archive.open(inside['data.pkl']) as pickled:
            protocol = pickled.read(2)[-1]
    return _of_pickle(path, protocol, of_torch=True)


def _of_pickle(path: Path, protocol: int, of_torch: bool) -> str | None:
    """Say what a pickle is, unless torch wrote it in a protocol that it reads."""
    if of_torch:
        what = f'saved with pickle protocol {protocol}'
        load = f"torch.load('{path}', 'cpu', weights_only=False)"
        newer = protocol > 3
        return _PICKLE.format(what=what, load=load, modules='torch') if newer else None
    what = f'a bare pickle (protocol {protocol}), not one of torch.save'
    load = f"pickle.load(open('{path}', 'rb'))"
    return _PICKLE.format(what=what, load=load, modules='pickle, torch')


def _of_text(start: bytes) -> str | None:
    """Say which text a file holds, from its beginning; None if it is binary."""
    try:
        text = start.decode('utf-8', errors='strict' if len(start) < 1024 else 'ignore')
    except UnicodeDecodeError:
        return None
    text = text.lstrip('\ufeff \t\r\n')
    if text[:1] == '<':
        kind = 'web page' if 'html' in text.lower() else 'XML document'
        return (
            f'a {kind}, often an error or a login page saved under the name of the '
            'file: open the link in a browser, and fetch the file itself'
        )
    if any(sign < ' ' and sign not in '\t\r\n' for sign in text):
        return None
    if 'weight_map' in text:
        return 'the index of weights split over several files: join them in one file'
    return f'a text file that begins with {text[:40]!r}: {_AGAIN}'


def _few(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
