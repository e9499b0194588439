"""`export_single_modality`: one camera of a CSK-Net as a plain network of mmseg."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.models.segmentors import EncoderDecoder

from mmir.registry import MODELS
from mmir.utils.checkpoint import load_checkpoint, save_checkpoint_atomic, weights_of
from mmir.utils.errors import UserError
from mmir.utils.files import write_text

from .plain import plain_config, plain_state
from .segmentor import CSKNet

_TRAINING_ONLY = 'teacher', 'distill', 'contrast'
_PROBE = 96, 128  # px; size of the image on which the exported network is compared


def export_single_modality(
    config: str | os.PathLike | Config,
    checkpoint: str | os.PathLike,
    modality: str,
    out_folder: str | os.PathLike,
) -> tuple[Path, Path]:
    """Write the network of one modality as a config and a checkpoint of plain mmseg.

    It costs what the plain network costs, needs no mmir, and its logits are those of
    the CSK-Net on that modality alone, which is checked before anything is written.

    Args:
        config (str | PathLike | Config): Config of a :class:`CSKNet`.
        checkpoint (str | PathLike): Its checkpoint.
        modality (str): One of its modalities.
        out_folder (str | PathLike): Folder to write `NAME_MODALITY.py` and `.pth` into,
            with the name of the config.

    Returns:
        tuple[Path, Path]: Config and checkpoint.

    Raises:
        UserError: The config describes no CSK-Net or parts that mmseg does not have,
            the modality is unknown, or the checkpoint does not fit.
        CheckpointError: The checkpoint cannot be read.
    """
    cfg = config if isinstance(config, Config) else Config.fromfile(config)
    model, meta = load_csknet(cfg, checkpoint)
    if modality not in model.modalities:
        raise UserError(
            f'there is no modality {modality!r}, the config has {[*model.modalities]}'
        )
    plain_cfg = plain_config(cfg, modality, meta)
    plain = MODELS.build(plain_cfg.model)
    with model.solo_statistics.alone(model, modality):
        state = plain_state(model, modality)
    plain.load_state_dict(state)
    _require_equal(model, plain.eval(), modality)
    name = f'{Path(cfg.filename or "csknet").stem}_{modality}'
    paths = tuple(Path(out_folder) / f'{name}{end}' for end in ('.py', '.pth'))
    state = {key: value.detach().clone() for key, value in state.items()}
    save_checkpoint_atomic(
        dict(meta=dict(dataset_meta=meta), state_dict=state), paths[1]
    )
    write_text(plain_cfg.pretty_text, paths[0])
    return paths


def load_csknet(
    cfg: Config, checkpoint: str | os.PathLike
) -> tuple[CSKNet, dict[str, Any]]:
    """Build a CSK-Net without what only training needs, and load its weights.

    Args:
        cfg: Its config. The checkpoint of the teacher is not needed.
        checkpoint: Its checkpoint.

    Returns:
        The network in evaluation mode; `classes` and `palette` as far as they are known
        from the checkpoint, the dataset or the config.

    Raises:
        UserError: The config describes another model, or the checkpoint does not fit.
        CheckpointError: The checkpoint cannot be read.
    """
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    options = {k: v for k, v in cfg.model.items() if k not in _TRAINING_ONLY}
    options['backbone'] = dict(options['backbone'], init_cfg=None)
    model = MODELS.build(options)
    if not isinstance(model, CSKNet):
        raise UserError(f'the config describes a {type(model).__name__}, not a CSKNet')
    content = load_checkpoint(checkpoint)
    state = {
        key: value
        for key, value in weights_of(content, checkpoint).items()
        if key.partition('.')[0] not in _TRAINING_ONLY
    }
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f'{checkpoint} does not fit the config: {error}') from error
    return model.eval(), _meta(content, cfg)


def _meta(content: Mapping[str, Any], cfg: Config) -> dict[str, Any]:
    """Names and colors of the classes."""
    meta = (content.get('meta') or {}).get('dataset_meta') or {}
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    known = dataset.get('metainfo') or {}
    found = {key: meta.get(key) or known.get(key) for key in ('classes', 'palette')}
    return {key: value for key, value in found.items() if value}


@torch.no_grad()
def _require_equal(model: CSKNet, plain: EncoderDecoder, modality: str) -> None:
    """Raise if the plain network computes anything else than the CSK-Net."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3 * len(model.modalities), *_PROBE, generator=generator)
    model.test_cfg.update(modalities=(modality,), output='auto')
    start = 3 * model.modalities.index(modality)
    own = plain(images[:, start : start + 3], mode='tensor')
    if not torch.equal(model(images, mode='tensor'), own):
        raise UserError(
            f'the network of {modality} alone differs from the CSK-Net; nothing is '
            'written. Does the backbone or the decoder keep a state between images?'
        )
