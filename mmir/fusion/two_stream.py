"""Halfway fusion: one backbone per modality, fused level by level."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleDict, ModuleList
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmir.structures import modality_order

from .modules import AddFusion, ConcatFusion, CrossAttentionFusion
from .single_modality import adapt_stem_

FUSIONS = {
    'add': AddFusion,
    'concat': ConcatFusion,
    'cross_attention': CrossAttentionFusion,
}
"""Short names of the fusion modules; the config of any other module works as well."""


@MODELS.register_module()
class TwoStreamBackbone(BaseModule):
    """Two-stream backbone: one backbone of any host per modality, fused at each level.

    Its outputs have the form of a single backbone's, so necks and heads of the hosts
    need no change. `frozen_stages`, `norm_eval`, `init_cfg` etc. are set in the
    backbones.

    The checkpoint of a model with a single such backbone loads into every stream. To
    give a modality its own weights, set the `init_cfg` of its stream,
    `dict(type='Pretrained', checkpoint=..., prefix='backbone.')`.

    Args:
        channels (Mapping[str, int], optional): Modality -> number of channels. Default:
            3 each for `rgb` and `ir`. For other numbers the stem is adapted, see
            :func:`mmir.fusion.stem.widen_stem_`.
        backbone (dict, optional): Config for the backbones of all streams. They do not
            share weights.
        backbones (Mapping[str, dict], optional): Modality -> config of its backbone,
            instead of `backbone`.
        fuse (str | dict): 'add' (mean), 'concat' (followed by a 1x1 convolution),
            'cross_attention', or the config of a module that is built per level with
            `modalities` and `channels` and called with a list of feature maps.
        levels (Sequence[int], optional): Indices of the outputs to fuse this way.
            Default: all. The others are averaged, without parameters: parameters of a
            level that no neck or head reads (the first output in RetinaNet) would get
            no gradient, which distributed training rejects.
        out_channels (Sequence[int], optional): Channels per level. Default: determined
            by running a 64x64 image.
        init_cfg (dict, optional): Initialization, see `mmengine.model.BaseModule`.

    Raises:
        ValueError: Fewer than two modalities, not exactly one of `backbone` and
            `backbones`, backbones with different numbers or channels of outputs, or no
            such level.
    """

    def __init__(
        self,
        channels: Mapping[str, int] | None = None,
        backbone: dict | None = None,
        backbones: Mapping[str, dict] | None = None,
        fuse: str | dict = 'add',
        levels: Sequence[int] | None = None,
        out_channels: Sequence[int] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        given = channels or {'rgb': 3, 'ir': 3}
        self.channels = {name: given[name] for name in modality_order(given)}
        if len(self.channels) < 2:
            raise ValueError(f'needs two modalities or more, got {[*self.channels]}')
        if (backbone is None) == (backbones is None):
            raise ValueError('give either backbone (for all) or backbones')
        cfgs = backbones or dict.fromkeys(self.channels, backbone)
        if set(cfgs) != set(self.channels):
            raise ValueError(
                f'backbones of {[*cfgs]} for the modalities {[*self.channels]}'
            )
        self.streams = ModuleDict(
            {name: MODELS.build(cfgs[name]) for name in self.channels}
        )
        for name, count in self.channels.items():
            adapt_stem_(self.streams[name], count)
        self.out_channels = tuple(out_channels or self._level_channels())
        self.fusions = ModuleList(self._build_fusions(fuse, levels))

    def _build_fusions(
        self, fuse: str | dict, levels: Sequence[int] | None
    ) -> list[nn.Module]:
        """Build one fusion module per level."""
        number = len(self.out_channels)
        levels = range(number) if levels is None else levels
        if not set(levels) <= set(range(number)):
            raise ValueError(f'levels={levels}, but there are {number}, from 0')
        cfg = dict(type=fuse) if isinstance(fuse, str) else dict(fuse)
        cfg['type'] = FUSIONS.get(cfg['type'], cfg['type'])
        return [
            MODELS.build(
                dict(
                    cfg if k in levels else dict(type=AddFusion),
                    modalities=len(self.channels),
                    channels=channels,
                )
            )
            for k, channels in enumerate(self.out_channels)
        ]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute fused feature maps of the stacked modalities.

        Args:
            x: Shape (N, sum of channels, H, W).

        Raises:
            ValueError: Wrong number of channels.
        """
        if x.shape[1] != sum(self.channels.values()):
            raise ValueError(
                f'the input has {x.shape[1]} channels, but the streams read '
                f'{self.channels}'
            )
        parts = x.split(list(self.channels.values()), 1)
        feats = [
            _tuple(stream(part))
            for stream, part in zip(self.streams.values(), parts, strict=True)
        ]
        levels = zip(*feats, strict=True)
        return tuple(f(m) for f, m in zip(self.fusions, levels, strict=True))

    @torch.no_grad()
    def _level_channels(self) -> tuple[int, ...]:
        """Channels of the outputs, determined by running a small image."""
        found = {}
        for name, stream in self.streams.items():
            modes = [(module, module.training) for module in stream.modules()]
            like = next(stream.parameters())
            stream.eval()  # returns None in some hosts
            feats = _tuple(stream(like.new_zeros(1, self.channels[name], 64, 64)))
            for module, mode in modes:
                module.training = mode
            found[name] = tuple(feat.shape[1] for feat in feats)
        if len(set(found.values())) > 1:
            raise ValueError(
                f'the streams must have the same output channels, got {found}'
            )
        return next(iter(found.values()))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        """Copy the weights of a single backbone to every stream, then load."""
        keys = [key for key in state_dict if key.startswith(prefix)]
        if not any(key.startswith(f'{prefix}streams.') for key in keys):
            alone = {
                key.removeprefix(prefix): state_dict.pop(key)
                for key in keys
                if not key.startswith(f'{prefix}fusions.')
            }
            for name in self.streams:
                for key, value in alone.items():
                    state_dict[f'{prefix}streams.{name}.{key}'] = value
            # fusion modules start as the mean, so these keys are not missing
            for key, value in self.fusions.state_dict(
                prefix=f'{prefix}fusions.'
            ).items():
                state_dict.setdefault(key, value)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _tuple(feats: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the outputs of a backbone as a tuple of feature maps (N, C, H, W)."""
    feats = (feats,) if isinstance(feats, Tensor) else tuple(feats)
    if not all(isinstance(x, Tensor) and x.ndim == 4 for x in feats):
        kinds = [tuple(x.shape) if isinstance(x, Tensor) else type(x) for x in feats]
        raise ValueError(f'a stream gives {kinds}: only maps (N, C, H, W) can be fused')
    return feats
