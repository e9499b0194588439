"""Rows of the TOPLight study: how a network is pretrained, averaged and pooled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmir.reid.toplight import PARTITIONS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/toplight'
NETWORK, LARGE = 'mobilenetv2', 'resnet50'
PATHS_FILE, SOUP_FILE = 'paths.pth', 'soup.pth'
PRETRAINING_RATE = 'pretraining_rate'
"""Key of the choice of a run."""
SEARCH_ROWS = dict(mean='plain', fdr='plain, FDR')
"""Network and pooling -> the row whose search decides the learning rate."""


@dataclass(frozen=True)
class Row:
    """A network that is fine-tuned on people.

    Attributes:
        pretraining: Name in `PRETRAININGS`; None for ImageNet weights alone.
        start: What it starts from. 'paths': blocks 1 to 4 of both paths, which stay one
            per modality. 'soup': their average, with a stem per modality.
        fdr: Whether FDR takes the place of mean pooling.
        large: Whether the network is ResNet-50, and not the light one.
    """

    pretraining: str | None = None
    start: str = 'soup'
    fdr: bool = False
    large: bool = False

    @property
    def network(self) -> str:
        """Rows with the same one share their learning rate."""
        return LARGE if self.large else 'fdr' if self.fdr else 'mean'


PRETRAININGS: dict[str, str] = {
    'generic': 'top_mbv3l_generic.py',
    'L_id': 'top_mbv3l_id.py',
    'L_idc': 'top_mbv3l_idc.py',
    'L_idc + L_fd': 'top_mbv3l.py',
}
"""Name -> the config that says its views and losses."""

WHOLE = 'L_idc + L_fd'
ROWS = {
    'plain': Row(),
    'plain, FDR': Row(fdr=True),
    'plain, two paths': Row(start='paths'),
    'TOP, L_id': Row('L_id', 'paths'),
    'TOP, L_idc': Row('L_idc', 'paths'),
    'TOP, L_idc + L_fd': Row(WHOLE, 'paths'),
    'generic, soup': Row('generic'),
    'TOP, soup': Row(WHOLE),
    'TOP, soup, FDR': Row(WHOLE, fdr=True),
    'ResNet-50': Row(large=True),
}


def pretraining_parts(
    name: str, backbone: dict[str, Any], classes: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Model, pipeline and hooks of a pretraining, as in the configs of TOPLight.

    Args:
        name: Name in `PRETRAININGS`.
        backbone: Config of the light network before the pretraining.
        classes: Number of classes.
        size: Width and height of the views in px. The crops have this shape, give or
            take a third.
    """
    recipe = Config.fromfile(CONFIGS / PRETRAININGS[name])
    model = recipe.model.to_dict()
    model['backbone'] |= dict(backbone=backbone, network=NETWORK)
    model['head'] |= dict(num_classes=classes)
    channels = PARTITIONS[NETWORK].channels
    if model['head']['domain']:
        model['head']['domain'] |= dict(channels=channels)
    pipeline = recipe.to_dict()['train_dataloader']['dataset']['pipeline']
    for step in (step for view in pipeline[1]['transforms'] for step in view):
        if step['type'].endswith('RandomResizedCrop'):
            shape = size[0] / size[1]
            step |= dict(scale=size, aspect_ratio_range=(0.75 * shape, shape / 0.75))
    return dict(model=model, pipeline=pipeline, hooks=recipe.to_dict()['custom_hooks'])


def model_config(
    row: Row, backbone: dict[str, Any], pretrained: Path | None, people: int
) -> dict[str, Any]:
    """Config of the model of a row.

    Args:
        row: The row.
        backbone: Config of the light network before any pretraining. ResNet-50 starts
            from random weights.
        pretrained: Folder of its pretraining; None without one.
        people: Number of training identities.
    """
    file = 'plain_r50_sysu.py' if row.large else 'toplight_mbv2_sysu.py'
    model = Config.fromfile(CONFIGS / file).to_dict()['model']
    model['head'] |= dict(num_classes=people)
    if row.large:
        model['backbone']['backbone'].pop('init_cfg')
        return model
    blocks = PARTITIONS[NETWORK]
    stem = blocks.paths if row.start == 'paths' else blocks.stem
    two_stems = dict(type='mmir.TwoStemBackbone', backbone=backbone, stem=stem)
    if pretrained is not None:
        weights = pretrained / (PATHS_FILE if row.start == 'paths' else SOUP_FILE)
        loads = dict(type='Pretrained', checkpoint=str(weights))
        two_stems |= dict(backbone=backbone | dict(init_cfg=None), init_cfg=loads)
    model |= dict(backbone=two_stems)
    if not row.fdr:
        model['head'] |= dict(in_channels=blocks.channels[-1])
        model |= dict(neck=dict(type='mmpretrain.GlobalAveragePooling'))
    return model
