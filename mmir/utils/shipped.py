"""Files that come with mmir: the small checkpoints in `demo/`."""

from pathlib import Path
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader

from .checkpoint import load_checkpoint

PREFIX = 'mmir://'
"""What a checkpoint of mmir is called by in `load_from` and in metafiles."""


def resource(path: str) -> Path:
    """Find a file or folder that is shipped beside the package.

    Args:
        path: Its path in a checkout, such as `demo/yolo-tiny_scenes_rgb.pth`.

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
    """Find a checkpoint that comes with mmir.

    Args:
        name: File name, with or without `mmir://` before it.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    return resource(f'demo/{name.removeprefix(PREFIX)}')


@CheckpointLoader.register_scheme(prefixes=PREFIX, force=True)
def load_shipped(name: str, map_location: str | None = None) -> dict[str, Any]:
    """Load a shipped checkpoint for mmengine: `load_from='mmir://NAME.pth'`.

    Weights are stored in half precision; a model takes them over in its own.

    Args:
        name: File name after the prefix.
        map_location: As in `torch.load`.

    Returns:
        `meta` and `state_dict`.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    return load_checkpoint(shipped_checkpoint(name), map_location=map_location)
