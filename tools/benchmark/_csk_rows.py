"""Rows of the CSK-Net study: what each trains, and what it takes away."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

NORM = dict(type='BN')
CHANNELS = 24, 32, 96, 320  # of the stages that MobileNetV2 returns
COLORS = dict(  # of ImageNet, for both cameras
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
)
BACKBONE: dict[str, Any] = dict(  # as in mmseg's DeepLabV3+ with MobileNetV2
    type='mmseg.MobileNetV2',
    widen_factor=1.0,
    strides=(1, 2, 2, 1, 1, 1, 1),
    dilations=(1, 1, 1, 2, 2, 4, 4),
    out_indices=(1, 2, 4, 6),
    norm_cfg=NORM,
)
DECODER: dict[str, Any] = dict(
    type='mmseg.DepthwiseSeparableASPPHead',
    in_channels=CHANNELS[-1],
    in_index=3,
    channels=128,  # 512 in mmseg
    dilations=(1, 12, 24, 36),
    c1_in_channels=CHANNELS[0],
    c1_channels=12,
    dropout_ratio=0.1,
    norm_cfg=NORM,
    align_corners=False,
    loss_decode=dict(type='mmseg.CrossEntropyLoss'),
)
Reads = Literal['rgb', 'ir', 'early', 'csk']
OTHER = dict(rgb='ir', ir='rgb')


@dataclass(frozen=True)
class Row:
    """A network and how it trains.

    Attributes:
        reads: `'rgb'` or `'ir'`: a plain network on one camera. `'early'`: on both,
            stacked. `'csk'`: CSK-Net.
        teacher: Camera of the teacher; None without distillation. The deployed camera
            is the other one.
        options: Keys of the model that differ from `MAIN`.
    """

    reads: Reads
    teacher: Literal['rgb', 'ir'] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


EXCHANGE = dict(channel_exchange={}, spatial_exchange={})
MAIN: dict[str, Any] = dict(
    shared=EXCHANGE,
    # crops are small: a class takes part from 11 pixels of a map, not 101
    contrast=dict(channels=CHANNELS, loss=dict(max_views=10)),
    distill={},
    p_solo=0.0,
)
PARTS: dict[str, dict[str, Any]] = {
    'no exchange': dict(shared={}),
    'channel': dict(shared=dict(channel_exchange={})),
    'spatial': dict(shared=dict(spatial_exchange={})),
    # with even dilations, the second of two exchanges undoes the first
    'spatial once': dict(shared=dict(spatial_exchange=dict(stages=(2,)))),
    'quantile': dict(
        shared=dict(EXCHANGE, channel_exchange=dict(mode='quantile', quantile=0.2))
    ),
    'shared norms': dict(shared=dict(separate='none', spatial_exchange={})),
    'separate': dict(shared=dict(EXCHANGE, separate='all')),
    'add': dict(fusion=dict(type='mmir.AddFusion')),
    'no contrast': dict(contrast=None),
    'solo': dict(p_solo=0.3),
}
DISTILL: dict[str, dict[str, Any]] = {
    'encoder': dict(distill=dict(decoder=0.0)),
    'decoder': dict(distill=dict(encoder=0.0)),
}


def rows() -> dict[str, Row]:
    """All rows: baselines, then per teacher the network and each part taken away."""
    found = {name: Row(name) for name in ('rgb', 'ir', 'early')}
    found['csk'] = Row('csk')  # without a teacher
    found |= {f'csk, {k}': Row('csk', None, v) for k, v in PARTS.items()}
    for teacher in ('ir', 'rgb'):
        name = f'csk, teacher {teacher}'
        found[name] = Row('csk', teacher)
        found |= {f'{name}, {k}': Row('csk', teacher, v) for k, v in DISTILL.items()}
        deployed = dict(students=(OTHER[teacher],))
        found[f'{name}, into {OTHER[teacher]}'] = Row('csk', teacher, deployed)
    return found


ROWS = rows()


def model_config(
    row: Row, plain: dict, decoder: dict, teacher: Path | None, settings: Mapping
) -> dict:
    """Config of the model of a row.

    Args:
        row: The row.
        plain: `data_preprocessor` and `backbone`, with its weights.
        decoder: Decode head.
        teacher: Checkpoint of the teacher.
        settings: Further keys of CSK-Net.
    """
    test_cfg = dict(mode='whole')
    host = dict(plain, target='mmseg.EncoderDecoder', test_cfg=test_cfg)
    if row.reads in ('rgb', 'ir'):
        single = dict(type='mmir.SingleModality', modality=row.reads)
        return dict(host, decode_head=decoder, **single)
    if row.reads == 'early':
        return dict(host, decode_head=decoder, type='mmir.EarlyFusion')
    keys = {**MAIN, **settings, **row.options}
    head = dict(type='mmir.CSKHead', decoder=decoder)
    if fusion := keys.pop('fusion', None):
        head.update(fusion=fusion)
    students = keys.pop('students', None)
    if row.teacher is not None:
        source = dict(modality=row.teacher, checkpoint=str(teacher), students=students)
        keys.update(teacher=source)
    return dict(plain, type='mmir.CSKNet', decode_head=head, test_cfg=test_cfg, **keys)
