"""`TwoStemBackbone`: a backbone with a stem per modality and shared later stages.

[1] M. Ye, J. Shen, G. Lin, T. Xiang, L. Shao and S. Hoi, "Deep learning for person
re-identification: a survey and outlook", TPAMI 2021 (AGW).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmir.layers.modality_norm import PerModality, with_idle
from mmir.layers.presence import ModalityRoute, Presence, as_levels, select
from mmir.registry import MODELS
from mmir.utils.errors import UserError

MODALITIES = ('rgb', 'ir')


@MODELS.register_module()
class TwoStemBackbone(BaseModule):
    """Backbone of mmpretrain with a stem of its own for RGB and for infrared [1].

    The modules named in `stem` are copied for each modality, the others are shared. A
    batch may mix both modalities in any order: the modality of each image decides
    which stem it goes through, never its place in the batch. In training, batch norms
    of the stem see one modality only, shared ones see both.

    Checkpoints of the plain backbone load into both stems, by `init_cfg` of the
    backbone as well as by `load_from`.

    Args:
        backbone (Mapping): Config of the backbone.
        stem (Sequence[str]): Names of the modules to copy, as in
            `backbone.named_modules()`. The default is the stem of ResNet; that of
            MobileNetV3 is `('layer0',)`. They must map a tensor to a tensor.
        init_cfg (Mapping, optional): See mmengine's `BaseModule`.

    Raises:
        UserError: The backbone has no such module, one contains another, or gradient
            checkpointing (`with_cp`) is on: its backward pass would compute with the
            modalities of another batch.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        stem: Sequence[str] = ('conv1', 'bn1'),
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(backbone)
        _check(self.backbone, stem)
        self.route = ModalityRoute(MODALITIES)
        for name in stem:
            layer = PerModality(self.backbone.get_submodule(name), self.route)
            self.backbone.set_submodule(name, layer)

    def forward(self, x: Tensor, modalities: Sequence[str]) -> tuple[Tensor, ...]:
        """Compute feature maps.

        Args:
            x (Tensor): Images (N, C, H, W).
            modalities (Sequence[str]): 'rgb' or 'ir' for each image.

        Returns:
            tuple[Tensor, ...]: What the backbone returns, in the order of `x`.

        Raises:
            UserError: A modality is unknown, or there is not one per image.
        """
        presence = _presence(modalities, len(x))
        order = [row for rows in presence.rows.values() for row in rows]
        self.route.enter(presence)
        try:
            levels = self._levels(select(x, order))
        finally:
            self.route.leave()
        back = sorted(range(len(order)), key=order.__getitem__)
        levels = tuple(select(level, back) for level in levels)
        return with_idle(levels, self, presence)

    def _levels(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of images that are sorted by modality."""
        return as_levels(self.backbone(x))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Accept the keys of a checkpoint of the plain backbone."""
        own = tuple(f'{prefix}{name}.' for name, _ in self.named_children())
        for key in [k for k in state_dict if k.startswith(prefix)]:
            if not key.startswith(own):
                plain = f'{prefix}backbone.{key.removeprefix(prefix)}'
                state_dict[plain] = state_dict.pop(key)
        self._refuse_paths(k.removeprefix(prefix) for k in state_dict)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _refuse_paths(self, keys: Iterable[str]) -> None:
        """Refuse a checkpoint with two copies of a layer that is shared here."""
        shared = {n for n, m in self.named_modules() if not isinstance(m, PerModality)}
        copied = {key.partition('.copies.')[0] for key in keys if '.copies.' in key}
        # of a whole model, names have one more 'backbone.' in front
        odd = {name.removeprefix('backbone.') for name in copied} & shared
        odd |= copied & shared
        if odd:
            raise UserError(
                f'this checkpoint has {sorted(odd)[0]} and {len(odd) - 1} other layers '
                'for each modality, which are shared here. After a pretraining of '
                'TOPLight, load soup.pth, or what tools/model_converters/'
                'uniform_soup.py writes'
            )


def _check(backbone: nn.Module, stem: Sequence[str]) -> None:
    """Refuse a stem that cannot be copied."""
    known = dict(backbone.named_modules())
    gone = [name for name in stem if name not in known or not name]
    if gone or not stem:
        children = [name for name, _ in backbone.named_children()]
        raise UserError(
            f'stem={[*stem]}: {type(backbone).__name__} has no modules {gone}; it has '
            f'{children} and what they contain'
        )
    for name in stem:
        if any(name.startswith(f'{other}.') for other in stem):
            raise UserError(f'stem: {name} is part of another module of {[*stem]}')
    if any(getattr(module, 'with_cp', False) for module in known.values()):
        raise UserError(
            'set with_cp=False: in the backward pass, gradient checkpointing would '
            'compute with the modalities of another batch'
        )


def _presence(modalities: Sequence[str], batch: int) -> Presence:
    """Rows of each modality in a batch."""
    given = {modalities} if isinstance(modalities, str) else {*modalities}
    if not given <= {*MODALITIES} or isinstance(modalities, str):
        raise UserError(
            f'modalities must be one of {MODALITIES} per image, got {given}'
        )
    if len(modalities) != batch:
        raise UserError(f'{batch} images, but {len(modalities)} modalities')
    rows = {
        name: tuple(k for k, given in enumerate(modalities) if given == name)
        for name in MODALITIES
    }
    return Presence(MODALITIES, {n: r for n, r in rows.items() if r}, batch)
