"""Networks named on the command line: configs, each followed by its checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmir.adapters import load_adapter
from mmir.adapters.checkpoint_fit import CheckpointMismatchError, check_fits
from mmir.adapters.files import FORMAT
from mmir.cli import cli
from mmir.utils.checkpoint import load_checkpoint, weights_of
from mmir.utils.errors import UserError


@dataclass
class Network:
    """A network of the command line.

    Attributes:
        config: Name of the config.
        cfg: The config.
        checkpoint: File of its weights or adapter; None for the weights of `init_cfg`.
        label: Its name in plots.
    """

    config: str
    cfg: Config
    checkpoint: Path | None
    label: str


def networks_of(
    items: Sequence[str], labels: Sequence[str] | None, options: dict[str, Any]
) -> list[Network]:
    """Sort the arguments of the command line into networks.

    Args:
        items: Configs (they end in `.py`), each followed by its checkpoints.
        labels: A label per network. Default: the names of the files.
        options: `--cfg-options`, for all configs.

    Raises:
        UserError: The first item is no config, a file does not exist, or the labels are
            not as many as the networks, or not distinct.
    """
    groups: list[tuple[str, list[str]]] = []
    for item in items:
        if item.endswith('.py'):
            groups.append((item, []))
        elif groups:
            groups[-1][1].append(item)
        else:
            raise UserError(f'{item}: begin with a config, which ends in .py')
    found = []
    for config, checkpoints in groups:
        cfg, stem = cli.load_config(config, options), Path(config).stem
        for file in checkpoints or [None]:
            path = None if file is None else Path(file).expanduser()
            if path is not None and not path.is_file():
                raise UserError(f'no checkpoint {file}')
            label = stem if path is None else f'{stem} {path.parent.name}/{path.stem}'
            found.append(Network(config, cfg, path, label))
    if labels is not None and len(labels) != len(found):
        raise UserError(f'{len(labels)} --labels for {len(found)} networks')
    for network, label in zip(found, labels or (), strict=False):
        network.label = label
    if len({network.label for network in found}) < len(found):
        raise UserError('networks of the same name: tell them apart with --labels')
    return found


def build_network(network: Network) -> nn.Module:
    """Build the model of a network with its weights, in evaluation mode.

    Raises:
        UserError: The checkpoint does not fit.
    """
    cfg, path = network.cfg, network.checkpoint
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(cfg.model)
    content = {} if path is None else load_checkpoint(path)
    adapter = (content.get('meta') or {}).get('format') == FORMAT
    try:
        if (path is None or adapter) and hasattr(model, 'init_weights'):
            model.init_weights()
        if adapter:
            load_adapter(model, path)
        elif path is not None:
            weights = weights_of(content, path)
            check_fits(model, weights, str(path))
            model.load_state_dict(weights, strict=False)
    except CheckpointMismatchError as error:
        raise UserError(str(error)) from error
    except (RuntimeError, ValueError) as error:
        raise UserError(f'{path} does not fit {network.config}: {error}') from error
    model.eval()  # the backbones of mmpretrain return nothing here
    return model
