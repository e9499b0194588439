"""Light networks for maps of people: their last layer, and weights of other libraries.

The classifiers of MobileNetV3 and GhostNet have a layer of 1280 (1024) channels after
the pooling. TOPLight applies it to the map before (its table 1).
"""

from collections.abc import Callable, Mapping
from typing import Any

from mmcv.cnn import ConvModule
from mmpretrain.models import MobileNetV2, MobileNetV3, ShuffleNetV2, TIMMBackbone
from torch import Tensor

from mmir.registry import MODELS
from mmir.utils import light_networks as convert
from mmir.utils.errors import UserError


class ForeignWeights:
    """Mixin of a backbone: checkpoints of other libraries load as its own.

    `init_cfg=dict(type='Pretrained', checkpoint=...)` of the backbone accepts files of
    the library in :attr:`signs`, and whole classifiers of mmpretrain.
    """

    signs: tuple[str, ...] = ()
    """Beginnings of names that only checkpoints of other libraries have."""

    converted: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """Renames their weights."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Accept the keys of a checkpoint of another library."""
        keys = [k for k in state_dict if k.startswith(prefix)]
        inner = {k.removeprefix(prefix): k for k in keys}
        if any(name.startswith(self.signs) for name in inner):
            taken = {name: state_dict.pop(key) for name, key in inner.items()}
            self._put(state_dict, prefix, type(self).converted(taken))
        elif any(name.startswith(('backbone.', 'head.')) for name in inner):
            taken = {name: state_dict.pop(key) for name, key in inner.items()}
            self._put(state_dict, prefix, self._of_classifier(taken))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _put(self, state: dict[str, Any], prefix: str, found: dict[str, Any]) -> None:
        """Add weights under a prefix."""
        state.update({prefix + name: value for name, value in found.items()})

    def _of_classifier(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the backbone of a classifier of mmpretrain."""
        return {
            name.removeprefix('backbone.'): value
            for name, value in state.items()
            if not name.startswith('head.')
        }


@MODELS.register_module()
class LightMobileNetV3(ForeignWeights, MobileNetV3):
    """mmpretrain's MobileNetV3 with the layer of 1280 channels (small: 1024).

    It is the last layer, a 1x1 convolution with hard swish on the map. Files of
    torchvision and timm load, and classifiers of mmpretrain. Those of timm need
    `norm_cfg=dict(type='BN', eps=1e-5)`.

    Args:
        arch (str): 'small', 'large' or another of mmpretrain.
        **kwargs: Arguments of mmpretrain's `MobileNetV3`.

    Raises:
        UserError: The architecture is unknown.
    """

    signs = ('features.', 'conv_stem.')
    converted = staticmethod(convert.convert_mobilenet_v3)

    def __init__(self, arch: str = 'large', **kwargs: Any) -> None:
        if arch not in self.arch_settings:
            raise UserError(f'arch={arch!r}: choose one of {[*self.arch_settings]}')
        super().__init__(arch, **kwargs)
        self.feat_dim = 1024 if 'small' in arch else 1280
        before = getattr(self, self.layers[-1]).conv.out_channels
        self.last = f'layer{len(self.layers)}'
        act = dict(type='HSwish')
        layer = ConvModule(before, self.feat_dim, 1, bias=True, act_cfg=act)
        self.add_module(self.last, layer)
        self.layers.append(self.last)
        self.out_indices = (len(self.layers) - 1,)

    def _of_classifier(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a classifier of mmpretrain; its head begins with the layer."""
        found = super()._of_classifier(state)
        if 'head.layers.0.fc.weight' in state:
            weight = state['head.layers.0.fc.weight']
            found[f'{self.last}.conv.weight'] = weight[..., None, None]
            found[f'{self.last}.conv.bias'] = state['head.layers.0.fc.bias']
        return found


@MODELS.register_module()
class LightMobileNetV2(ForeignWeights, MobileNetV2):
    """mmpretrain's MobileNetV2; files of torchvision and timm load.

    Args:
        **kwargs: Arguments of mmpretrain's `MobileNetV2`.
    """

    signs = ('features.', 'conv_stem.')
    converted = staticmethod(convert.convert_mobilenet_v2)


@MODELS.register_module()
class LightShuffleNetV2(ForeignWeights, ShuffleNetV2):
    """mmpretrain's ShuffleNetV2; files of torchvision load.

    Args:
        **kwargs: Arguments of mmpretrain's `ShuffleNetV2`.
    """

    signs = ('stage2.', 'conv5.')
    converted = staticmethod(convert.convert_shufflenet_v2)


def _for_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of `TIMMBackbone`, which has no classifier."""
    return {
        f'timm_model.{name}': value
        for name, value in state.items()
        if not name.startswith('classifier.')
    }


@MODELS.register_module()
class LightGhostNet(ForeignWeights, TIMMBackbone):
    """timm's GhostNet with its layer of 1280 channels on the map; files of timm load.

    Needs `pip install timm`.

    Args:
        width (float): 0.5, 1.0 or 1.3.
        init_cfg (dict, optional): See mmengine's `BaseModule`.

    Raises:
        UserError: There is no such width.
    """

    signs = ('conv_stem.', 'blocks.', 'conv_head.')
    converted = staticmethod(_for_timm)

    def __init__(self, width: float = 1.0, init_cfg: dict | None = None) -> None:
        if width not in (0.5, 1.0, 1.3):
            raise UserError(f'width={width}: choose one of 0.5, 1.0 and 1.3')
        name = f'ghostnet_{round(100 * width):03d}'
        super().__init__(name, init_cfg=init_cfg)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute the map.

        Args:
            x (Tensor): Images (N, 3, H, W).

        Returns:
            tuple[Tensor]: Map (N, 1280, H / 32, W / 32).
        """
        net = self.timm_model
        return (net.act2(net.conv_head(net.forward_features(x))),)
