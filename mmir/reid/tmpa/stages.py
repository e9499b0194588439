"""Which modules of a backbone are its stem and its four stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmir.registry import MODELS
from mmir.utils.errors import UserError


@dataclass(frozen=True)
class Stages:
    """Parts of a backbone of mmpretrain.

    Attributes:
        stem: Names of the modules before the first stage.
        modules: Per stage the names of its modules, in the order they run. Their maps
            have strides of 4, 8, 16 and 32, unless the config changes them.
        out_indices: Per stage the index in `out_indices` of its output.
    """

    stem: tuple[str, ...]
    modules: tuple[tuple[str, ...], ...]
    out_indices: tuple[int, ...]

    def after(self, count: int) -> tuple[str, ...]:
        """Modules that follow the first stages, `count` of them."""
        return tuple(name for names in self.modules[count:] for name in names)

    def before(self, count: int) -> tuple[str, ...]:
        """Modules of the first stages, `count` of them."""
        return tuple(name for names in self.modules[:count] for name in names)


STAGES = {
    'ResNet': Stages(
        stem=('conv1', 'bn1'),
        modules=(('layer1',), ('layer2',), ('layer3',), ('layer4',)),
        out_indices=(0, 1, 2, 3),
    ),
    'MobileNetV2': Stages(
        stem=('conv1',),
        modules=(
            ('layer1', 'layer2'),
            ('layer3',),
            ('layer4', 'layer5'),
            ('layer6', 'layer7', 'conv2'),
        ),
        out_indices=(1, 2, 4, 7),
    ),
}
"""Class of a backbone -> its stages; subclasses have those of their base."""


def stages_of(backbone: Mapping[str, Any]) -> Stages:
    """Look up the stages of a backbone.

    Args:
        backbone (Mapping): Config of the backbone.

    Returns:
        Stages: Its stages.

    Raises:
        UserError: There is no row for it.
    """
    kind = found = backbone['type']
    if isinstance(kind, str):  # looked up as `build` does, in the default scope
        with MODELS.switch_scope_and_registry(None) as registry:
            found = registry.get(kind)
    for base in getattr(found, '__mro__', ()):
        if base.__name__ in STAGES:
            return STAGES[base.__name__]
    raise UserError(
        f'backbone {kind}: its stages are not known; choose one of {[*STAGES]}, or add '
        'a row to mmir.reid.tmpa.stages.STAGES'
    )
