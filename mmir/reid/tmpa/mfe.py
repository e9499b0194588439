"""`MFE`: feature maps that both modalities share, and maps of one modality.

[1] "Transferring modality-aware pedestrian attentive learning for visible-infrared
person re-identification" (TMPA), arXiv 2312.07021, 2023.
[2] Q. Zhang, C. Lai, J. Liu, N. Huang and J. Han, "FMCNet: feature-level modality
compensation for visible-infrared person re-identification", CVPR 2022.
"""

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmir.layers.modality_norm import PerModality
from mmir.registry import MODELS
from mmir.reid.backbones import TwoStemBackbone
from mmir.utils.errors import UserError

from .stages import stages_of

VARIANTS = {'light': 3, 'full': 2}
"""Name -> number of stages before the branches."""


@MODELS.register_module()
class MFE(TwoStemBackbone):
    """Modality feature extraction [1]: a shared and a specific branch of a backbone.

    The last stages of the backbone exist three times: one branch for images of both
    modalities, one for RGB and one for infrared images. All begin with the same
    weights, also when a checkpoint of the plain backbone is loaded.

    The paper uses ResNet-50. Where its branches begin was not known to us, so there are
    two variants. Numbers of parameters are those of a ResNet-50. Other backbones have
    a row in :data:`mmir.reid.tmpa.stages.STAGES`.

    - 'light' (ours): a stem per modality, shared stages 1 to 3, and three stages 4;
      53.4 million.
    - 'full': stem, stages 1 and 2 per modality, and stages 3 and 4 three times, as in
      FMCNet [2]; 69.1 million.

    Args:
        backbone (Mapping): Config of a ResNet or MobileNetV2 of mmpretrain.
        variant (str): 'light' or 'full'.
        init_cfg (Mapping, optional): See mmengine's `BaseModule`.

    Raises:
        UserError: The variant, or where the stages of the backbone are, is unknown, or
            the backbone has `norm_eval` or `frozen_stages`.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        variant: str = 'light',
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        if variant not in VARIANTS:
            raise UserError(f'variant={variant!r}: choose one of {[*VARIANTS]}')
        if backbone.get('norm_eval') or backbone.get('frozen_stages', -1) >= 0:
            raise UserError(
                'norm_eval and frozen_stages of the backbone would not reach its '
                'specific branches; leave them out'
            )
        shared, parts = VARIANTS[variant], stages_of(backbone)
        stem = [*parts.stem, *(parts.before(shared) if variant == 'full' else ())]
        # the map that branches begin with, and that of the shared branch
        ends = parts.out_indices[shared - 1], parts.out_indices[-1]
        super().__init__({**backbone, 'out_indices': ends}, stem, init_cfg)
        self.branch = parts.after(shared)
        stages = OrderedDict(
            (name, copy.deepcopy(self.backbone.get_submodule(name)))
            for name in self.branch
        )
        self.specific = PerModality(nn.Sequential(stages), self.route)

    def forward(self, x: Tensor, modalities: list[str]) -> tuple[Tensor, ...]:
        """Compute the shared and the specific map of each image.

        Args:
            x (Tensor): Images (N, 3, H, W).
            modalities (list[str]): 'rgb' or 'ir' for each image.

        Returns:
            tuple[Tensor, ...]: Map of the shared branch and map of the branch of the
            own modality, each (N, C, H / 16, W / 16) for a ResNet with a last stride
            of 1.

        Raises:
            UserError: A modality is unknown, or there is not one per image.
        """
        return super().forward(x, modalities)

    def _levels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of images that are sorted by modality."""
        trunk, shared = self.backbone(x)
        return shared, self.specific(trunk)

    def init_weights(self) -> None:
        """Initialize the backbone; specific branches begin as the shared one."""
        first = not self.is_init
        super().init_weights()
        given = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg]
        if first and not any(cfg and cfg['type'] == 'Pretrained' for cfg in given):
            for stages in self.specific.copies.values():
                for name in self.branch:
                    weights = self.backbone.get_submodule(name).state_dict()
                    stages.get_submodule(name).load_state_dict(weights)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Give the specific branches the weights of a checkpoint without them."""
        own = f'{prefix}specific.'
        if not any(key.startswith(own) for key in state_dict):
            for start in (prefix, f'{prefix}backbone.'):
                stages = tuple(f'{start}{name}.' for name in self.branch)
                for key in [k for k in state_dict if k.startswith(stages)]:
                    state_dict[own + key.removeprefix(start)] = state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
