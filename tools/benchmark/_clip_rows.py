"""Rows of the IV-tuning study: how a CLIP ViT-B/16 reads pairs, and what trains."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmengine.registry import MODELS
from torch import nn

BACKBONE: dict[str, Any] = dict(
    type='mmpretrain.VisionTransformer',
    arch='b',
    img_size=224,
    patch_size=16,
    pre_norm=True,
    norm_cfg=dict(type='LN', eps=1e-5),
    layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
)
BLOCKS = 12
CLIP_FILE = 'clip_vitb16_mmpretrain_fp16.safetensors'
COLORS = dict(  # of CLIP, for both cameras
    mean=[122.7709383, 116.7460125, 104.09373615],
    std=[68.5005327, 66.6321579, 70.32316305],
)
Reads = Literal['rgb', 'ir', 'sum', 'two', 'prompts']
Choice = tuple[tuple[str, Any], ...]
FULL_RATES = 3e-6, 1e-5, 3e-5
RATES = 2e-4, 1e-3
HEAD_RATE = 1e-3  # of head and neck, in all rows
EMBED_RATE = 1e-5  # of a patch embedding of both images that trains with adapters


@dataclass(frozen=True)
class Row:
    """What a row reads and what trains besides head and neck.

    Attributes:
        reads: `'rgb'` or `'ir'`: one image. `'sum'`: both, embedded and added. `'two'`:
            both, through the same frozen weights, with concatenated features.
            `'prompts'`: both, by IV-tuning.
        adapt: Method; None trains everything.
        rates: Learning rates of the backbone to choose from.
        choices: Arguments to choose from: those of the method, and `init` of the
            widened patch embedding of rows that add both embeddings. In streets, where
            a run is long, IV-tuning takes the first one.
        known: Task -> rate that was chosen before, on the same held-out images in a
            larger form of the task.
    """

    reads: Reads
    adapt: dict | None = None
    rates: tuple[float, ...] = RATES
    choices: tuple[Choice, ...] = ((),)
    known: Mapping[str, float] = field(default_factory=dict)

    def grid(self, task: str) -> list[tuple[float, Choice]]:
        """Learning rates and arguments to choose from in a task."""
        rates = (self.known[task],) if task in self.known else self.rates
        first = task == 'street' and self.reads == 'prompts'
        choices = self.choices[:1] if first else self.choices
        return list(itertools.product(rates, choices))


FROZEN = dict(type='Frozen', norm='frozen')
STARTS = ((('zero_init', True),), (('zero_init', False),))
# The infrared image begins without effect, or with half of the pretrained kernel.
EMBEDDINGS = ((('init', 'zero'),), (('init', 'average'),))


def _added(method: dict | None, known: dict[str, float], **options: Any) -> Row:
    return Row('sum', method, choices=EMBEDDINGS, known=known, **options)


ROWS = {
    'rgb': Row('rgb', FROZEN, rates=(HEAD_RATE,)),
    'ir': Row('ir', FROZEN, rates=(HEAD_RATE,)),
    'two': Row('two', FROZEN, rates=(HEAD_RATE,)),
    'full_rgb': Row('rgb', rates=FULL_RATES, known=dict(field=3e-5, street=3e-6)),
    'full_ir': Row('ir', rates=FULL_RATES, known=dict(field=1e-5, street=1e-5)),
    'full': _added(None, dict(field=1e-5), rates=FULL_RATES),
    'frozen': _added(FROZEN, dict(field=1e-5), rates=(1e-5, 3e-5, 1e-4)),
    'lora': _added(dict(type='LoRA', norm='frozen'), dict(field=1e-3)),
    'adaptformer': _added(dict(type='AdaptFormer', norm='frozen'), dict(field=1e-3)),
    'vpt': _added(dict(type='VPT', deep=True, norm='frozen'), dict(field=1e-3)),
    'ivt': Row(
        'prompts', dict(type='IVTuning'), choices=STARTS, known=dict(field=2e-4)
    ),
    'ivt_mp': Row(
        'prompts',
        dict(type='IVTuning', variant='mp'),
        choices=STARTS,
        known=dict(field=2e-4),
    ),
    'ivt_ir': Row(
        'prompts',
        dict(type='IVTuning', main='ir', zero_init=True),
        rates=(5e-5, 2e-4),
    ),
}


def rates_by_name(name: str, rate: float) -> dict[str, float]:
    """Learning rates by part of a parameter's name; the longest part decides.

    Args:
        name: Name of the row.
        rate: Its learning rate.
    """
    adapted = ROWS[name].reads == 'sum' and ROWS[name].adapt not in (None, FROZEN)
    rates = dict(backbone=rate)
    return rates | dict(patch_embed=EMBED_RATE) if adapted else rates


def backbone(weights: Path, **options: Any) -> dict:
    """Config of the plain backbone, which loads CLIP's weights."""
    loads = dict(type='Pretrained', checkpoint=str(weights / CLIP_FILE))
    return dict(BACKBONE, init_cfg=loads, **options)


def reading(row: Row, plain: dict, choice: dict) -> dict:
    """Config of the backbone with the input of a row."""
    if row.reads == 'sum':
        early = dict(plain, type='mmir.EarlyFusion', target=plain['type'])
        return dict(early, fusion=dict(channels=(3, 3), init=choice['init']))
    if row.reads in ('rgb', 'ir', 'two') and row.adapt is not None:
        return dict(plain, frozen_stages=BLOCKS)
    return plain


def method_of(row: Row, choice: dict, heads: Sequence[str]) -> dict:
    """The key `adapt` of a row that adapts the whole model."""
    assert row.adapt is not None
    trainable = [*heads, *(['patch_embed'] if row.reads == 'sum' else [])]
    options = {key: value for key, value in choice.items() if key != 'init'}
    return dict(row.adapt, trainable=trainable, **options)


def model_config(
    row: Row, choice: dict, model: dict, plain: dict, heads: Sequence[str]
) -> dict:
    """Config of a host's model in the form of a row.

    Args:
        row: The row.
        choice: One of its `choices`.
        model: Config of the host's model; its `backbone` is a `mmir.TransformerTaps`
            without the backbone itself.
        plain: Config of the plain backbone.
        heads: Names of the parts that train in all rows.
    """
    taps = dict(model['backbone'], backbone=reading(row, plain, choice))
    if row.reads == 'two':
        taps = dict(type='mmir.TwoStreamBackbone', backbone=taps, fuse='concat')
    host = {key: value for key, value in model.items() if key != 'type'}
    host.update(target=model['type'], backbone=taps)
    if row.reads in ('rgb', 'ir'):
        return dict(host, type='mmir.SingleModality', modality=row.reads)
    if row.reads == 'two' or row.adapt is None:
        return dict(host, type='mmir.Adapted', adapt=None)
    return dict(host, type='mmir.Adapted', adapt=method_of(row, choice, heads))


def built(row: Row, plain: dict, choice: dict) -> nn.Module:
    """Build the backbone of a row with its weights, not adapted yet."""
    net = MODELS.build(reading(row, plain, choice))
    net.init_weights()
    return net
