"""Rows of the study of visible-infrared re-identification, and their models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GRID = (18, 9)  # patches of 8x8 in images of 144x72
CLIP = 'frozen CLIP'
TRANSFER_CHANNELS, HEADS = 128, 4


@dataclass(frozen=True)
class Row:
    """What is trained.

    Attributes:
        network: 'agw': two stems, a BNNeck head, identity and WRT loss. 'tmpa': MFE and
            MFT, with their losses besides. 'clip': nothing is trained.
        caj: Channel augmentation of CAJ.
        pedmix: Arguments of PedMix; None for no mixing.
        paths: Paths of MFT.
    """

    network: str
    caj: bool = False
    pedmix: Mapping[str, Any] | None = None
    paths: tuple[str, ...] = ('attention', 'convolution')


def rows() -> dict[str, Row]:
    """All rows: the baseline, what is added to it, and parts of TMPA."""
    whole: dict[str, Any] = dict(ratios=(0.5, 0.3, 0.1))
    found = {
        'baseline': Row('agw'),
        'CAJ': Row('agw', caj=True),
        'PedMix': Row('agw', pedmix=whole),
        'MFT': Row('tmpa'),
        'TMPA': Row('tmpa', pedmix=whole),
    }
    for percent in (25, 50, 75):
        ratios = (percent / 100,) * 3
        found[f'TMPA, ratio {percent} %'] = Row('tmpa', pedmix=dict(ratios=ratios))
    for k, region in enumerate(('center', 'sub-center', 'outer')):
        ratios = tuple(0.5 * (k == other) for other in range(3))
        found[f'TMPA, {region}'] = Row('tmpa', pedmix=dict(ratios=ratios))
    for path in ('attention', 'convolution'):
        found[f'TMPA, {path} only'] = Row('tmpa', pedmix=whole, paths=(path,))
    return found


ROWS = rows()


def model_config(
    row: Row,
    backbone: dict,
    stem: tuple[str, ...],
    channels: int,
    people: int,
    seed: int,
) -> dict[str, Any]:
    """Config of the model of a row.

    Args:
        row: The row.
        backbone: Config of the plain backbone.
        stem: Its modules that exist once per modality.
        channels: Channels of its last map.
        people: Number of training identities.
        seed: Seed of the masks of PedMix.
    """
    colors = dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    )
    pre = dict(type='mmpretrain.ClsDataPreprocessor', **colors)
    if row.pedmix is not None:
        mix = dict(row.pedmix, grid=GRID)
        pre = dict(type='mmir.PedMixDataPreprocessor', pedmix=mix, seed=seed, **colors)
    head = dict(num_classes=people, metric=dict(wrt=dict(type='mmir.WRTLoss')))
    if row.network == 'agw':
        return dict(
            type='mmir.VIReID',
            data_preprocessor=pre,
            backbone=dict(type='mmir.TwoStemBackbone', backbone=backbone, stem=stem),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(head, type='mmir.VIReIDHead', in_channels=channels),
        )
    transfer = dict(
        type='mmir.MFT',
        in_channels=channels,
        channels=TRANSFER_CHANNELS,
        heads=HEADS,
        paths=list(row.paths),
    )
    sizes = dict(in_channels=3 * channels, branch_channels=channels)
    losses = dict(
        mss=dict(type='mmir.MSSLoss', loss_weight=0.5),
        msi=dict(type='mmir.MSILoss', loss_weight=0.5),
    )
    return dict(
        type='mmir.VIReID',
        data_preprocessor=pre,
        backbone=dict(type='mmir.TMPABackbone', backbone=backbone, transfer=transfer),
        neck=dict(type='mmir.CompleteNeck'),
        head=dict(head, type='mmir.TMPAHead', **sizes, **losses),
    )
