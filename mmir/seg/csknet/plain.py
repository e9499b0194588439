"""The plain network of one modality inside a CSK-Net: its config and its weights."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import Tensor

from mmir.layers.modality_norm import PerModality
from mmir.utils.errors import UserError

from .segmentor import CSKNet

_OWN_KEYS = 'modalities', 'output'  # of `test_cfg`, which mmseg does not know
_LEFT_OUT = 'PackPairedInputs', 'DropModality', 'LoadPairedImages'
_PADDING = 'size', 'size_divisor', 'pad_val', 'seg_pad_val', 'test_cfg'


def plain_state(model: CSKNet, modality: str) -> dict[str, Tensor]:
    """Weights of the encoder and the decoder of one modality, with mmseg's names.

    Args:
        model: The network.
        modality: One of its modalities.

    Returns:
        State dict of the plain `EncoderDecoder`, without copies of the tensors.
    """
    state = dict(model.backbone.state_dict(prefix='backbone.'))
    for name, layer in model.backbone.named_modules():
        if isinstance(layer, PerModality):
            prefix = f'backbone.{name}.copies.'
            for key in [k for k in state if k.startswith(prefix)]:
                kind, _, rest = key.removeprefix(prefix).partition('.')
                value = state.pop(key)
                if kind == modality:
                    state[f'backbone.{name}.{rest}'] = value
    decoder = model.decode_head.decoders[modality]
    return state | decoder.state_dict(prefix='decode_head.')


def plain_config(cfg: Config, modality: str, meta: Mapping[str, Any]) -> Config:
    """Config of mmseg for the network of one modality.

    Args:
        cfg: Config of a :class:`CSKNet`.
        modality: One of its modalities.
        meta: `classes` and `palette`.

    Returns:
        Config: A model, a test pipeline for the images of one camera, and what mmseg's
        inferencer needs. Nothing of it needs mmir.

    Raises:
        UserError: A part has no counterpart in mmseg.
    """
    model = cfg.model
    backbone = {k: v for k, v in model.backbone.items() if k != 'init_cfg'}
    test_cfg = {k: v for k, v in model.test_cfg.items() if k not in _OWN_KEYS}
    pipeline = _pipeline(cfg, modality)
    made = dict(
        default_scope='mmseg',
        model=dict(
            type='EncoderDecoder',
            data_preprocessor=_preprocessor(model.data_preprocessor, modality),
            backbone=backbone,
            decode_head=dict(model.decode_head.decoder),
            train_cfg=dict(),
            test_cfg=test_cfg,
        ),
        test_pipeline=pipeline,
        test_dataloader=dict(
            batch_size=1,
            dataset=dict(
                type='BaseSegDataset',
                metainfo={k: list(v) for k, v in meta.items() if v},
                pipeline=pipeline,
                test_mode=True,
            ),
        ),
        visualizer=dict(
            type='SegLocalVisualizer',
            vis_backends=[dict(type='LocalVisBackend')],
            name='visualizer',
        ),
    )
    made = _plain(made)
    if ours := [*_ours(made)]:
        raise UserError(
            f'{", ".join(ours)}: mmseg alone cannot build it; a network with such '
            'parts cannot be exported without mmir'
        )
    return Config(made)


def _preprocessor(given: Mapping[str, Any], modality: str) -> dict[str, Any]:
    """mmseg's data preprocessor with the statistics of one modality."""
    row = given['modalities'][modality]
    made = dict(
        type='SegDataPreProcessor', **{k: given[k] for k in _PADDING if k in given}
    )
    if row.get('mean') is not None:
        for key in ('mean', 'std'):
            # one number stands for all three channels
            values = np.broadcast_to(row[key], 3)
            made[key] = [float(value) for value in values]
    return dict(made, bgr_to_rgb=bool(row.get('bgr_to_rgb', False)))


def _pipeline(cfg: Config, modality: str) -> list[dict[str, Any]]:
    """Test pipeline of the config for the files of one camera."""
    steps = ((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('pipeline')
    load = next((s for s in steps or () if _bare(s) == 'LoadPairedImages'), None)
    if load is None:
        raise UserError(
            'the test pipeline is made from that of the config, but its '
            'test_dataloader.dataset has none that begins with mmir.LoadPairedImages'
        )
    how = (load.get('modalities') or {}).get(modality, {})
    if how.get('bit_depth', 8) != 8 or how.get('to_float32'):
        raise UserError(
            f'{modality} is loaded with {dict(how)}, but mmseg reads images of 8 bits: '
            'export to ONNX, which takes the values themselves'
        )
    # in three channels, like a thermal image of one channel here
    made = [dict(type='LoadImageFromFile')]
    for step in steps:
        if _bare(step) == 'PairedTransform':
            made += _listed(step['transforms'])
        elif _bare(step) == 'OnModality':
            made += _listed(step['transforms']) if step['modality'] == modality else []
        elif _bare(step) not in _LEFT_OUT:
            made.append(step)
    return [*made, dict(type='PackSegInputs')]


def _listed(transforms: Any) -> list[dict[str, Any]]:
    return [transforms] if isinstance(transforms, Mapping) else [*transforms]


def _bare(step: Mapping[str, Any]) -> str:
    return str(step['type']).rpartition('.')[2]


def _plain(node: Any) -> Any:
    """Copy as plain containers, for mmseg alone and one process.

    Its inferencer knows transforms by their names without the scope.
    """
    if isinstance(node, Mapping):
        made = {key: _plain(value) for key, value in node.items()}
        if isinstance(made.get('type'), str):
            kind = made['type'].removeprefix('mmseg.')
            made['type'] = 'BN' if kind == 'SyncBN' else kind
        return made
    if isinstance(node, list | tuple):
        return type(node)(_plain(value) for value in node)
    return copy.deepcopy(node)


def _ours(node: Any) -> list[str]:
    """Types in the scope of mmir."""
    if isinstance(node, Mapping):
        own = [str(node.get(key, '')) for key in ('type', 'target')]
        found = [name for name in own if name.startswith('mmir.')]
        return found + [name for value in node.values() for name in _ours(value)]
    if isinstance(node, list | tuple):
        return [name for value in node for name in _ours(value)]
    return []
