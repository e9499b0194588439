"""Files shipped with mmir: the small checkpoints in `demo/`."""

from pathlib import Path
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader

from .checkpoint import load_checkpoint

PREFIX = 'mmir://'
"""Prefix of shipped checkpoints in `load_from` and in metafiles."""
NOT_PUBLISHED = f'{PREFIX}not published/'
"""`Weights` in metafiles of models without any.

It ends with a slash, as those of shipped checkpoints do in metafiles: `mim download`
takes the part after the last slash for the file to fetch, and has no other way to say
that there is none.
"""


def resource(path: str) -> Path:
    """Find a file or folder that is shipped with the package.

    Args:
        path: Path in a checkout, such as `demo/yolo-tiny_scenes_rgb.pth`.

    Returns:
        The path in the checkout if mmir runs from one, else in `mmir/.mim`.

    Raises:
        FileNotFoundError: The installation has neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent, package / '.mim'):
        if (folder / path).exists():
            return folder / path
    raise FileNotFoundError(
        f'no {path} beside {package} nor in it: install mmir from a wheel, or with '
        '`pip install -e .` from a checkout'
    )


def shipped_checkpoint(name: str) -> Path:
    """Find a shipped checkpoint.

    Args:
        name: File name, with or without the prefix `mmir://`.

    Raises:
        FileNotFoundError: There is no such checkpoint.
    """
    return resource(f'demo/{name.removeprefix(PREFIX)}')


@CheckpointLoader.register_scheme(prefixes=PREFIX, force=True)
def load_shipped(name: str, map_location: str | None = None) -> dict[str, Any]:
    """Load a shipped checkpoint for mmengine: `load_from='mmir://NAME.pth'`.

    Weights are stored in half precision; a model converts them to its own dtype.

    Args:
        name: File name with the prefix; a slash at its end is ignored.
        map_location: As in `torch.load`.

    Returns:
        Dict with `meta` and `state_dict`.

    Raises:
        FileNotFoundError: There is no such checkpoint, or the model has none.
    """
    if name == NOT_PUBLISHED:
        raise FileNotFoundError(
            'no weights of this model are published: name a checkpoint of your own '
            '(`weights=...`), or train it with tools/train.py'
        )
    return load_checkpoint(
        shipped_checkpoint(name.rstrip('/')), map_location=map_location
    )
