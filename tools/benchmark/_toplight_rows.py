"""Rows of the TOPLight study: how a network is pretrained, averaged and pooled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmir.reid.toplight import PARTITIONS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/toplight'
NETWORK = 'mobilenetv2'
WEIGHTS_FILE = 'mobilenetv2_mmpretrain.safetensors'
PATHS_FILE, SOUP_FILE = 'paths.pth', 'soup.pth'
SIZE = 112  # of the pretraining images
SEARCH_ROWS = dict(mean='plain', fdr='plain, FDR')
"""Pooling -> the row whose search decides the learning rate."""


@dataclass(frozen=True)
class Row:
    """A network that is fine-tuned on people.

    Attributes:
        pretraining: Name in `PRETRAININGS`; None for ImageNet weights alone.
        start: What it starts from. 'paths': blocks 1 to 4 of both paths, which stay one
            per modality. 'soup': their average, with a stem per modality.
        fdr: Whether FDR takes the place of mean pooling.
    """

    pretraining: str | None = None
    start: str = 'soup'
    fdr: bool = False

    @property
    def network(self) -> str:
        """Rows with the same one share their learning rate."""
        return 'fdr' if self.fdr else 'mean'


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
}


def weights_of(folder: Path) -> dict[str, Any]:
    """Config of ImageNet weights."""
    return dict(type='Pretrained', checkpoint=str(folder / WEIGHTS_FILE))


def light(**kwargs: Any) -> dict[str, Any]:
    """Config of the light network."""
    return dict(type='mmir.LightMobileNetV2', **kwargs)


def pretraining_parts(name: str, weights: Path, classes: int) -> dict[str, Any]:
    """Model, pipeline and hooks of a pretraining, as in the configs of TOPLight.

    Args:
        name: Name in `PRETRAININGS`.
        weights: Folder of ImageNet weights.
        classes: Number of classes.
    """
    recipe = Config.fromfile(CONFIGS / PRETRAININGS[name])
    model = recipe.model.to_dict()
    backbone = light(init_cfg=weights_of(weights))
    model['backbone'] |= dict(backbone=backbone, network=NETWORK)
    model['head'] |= dict(num_classes=classes)
    channels = PARTITIONS[NETWORK].channels
    if model['head']['domain']:
        model['head']['domain'] |= dict(channels=channels)
    pipeline = recipe.to_dict()['train_dataloader']['dataset']['pipeline']
    for step in (step for view in pipeline[1]['transforms'] for step in view):
        if step['type'].endswith('RandomResizedCrop'):
            step['scale'] = SIZE
    return dict(model=model, pipeline=pipeline, hooks=recipe.to_dict()['custom_hooks'])


def model_config(
    row: Row, weights: Path, pretrained: Path | None, people: int
) -> dict[str, Any]:
    """Config of the model of a row.

    Args:
        row: The row.
        weights: Folder of ImageNet weights.
        pretrained: Folder of its pretraining; None without one.
        people: Number of training identities.
    """
    base = Config.fromfile(CONFIGS / 'toplight_mbv2_sysu.py').to_dict()
    model, blocks = base['model'], PARTITIONS[NETWORK]
    stem = blocks.paths if row.start == 'paths' else blocks.stem
    backbone = dict(type='mmir.TwoStemBackbone', stem=stem)
    if pretrained is None:
        backbone |= dict(backbone=light(init_cfg=weights_of(weights)))
    else:
        file = pretrained / (PATHS_FILE if row.start == 'paths' else SOUP_FILE)
        loads = dict(type='Pretrained', checkpoint=str(file))
        backbone |= dict(backbone=light(), init_cfg=loads)
    model |= dict(backbone=backbone)
    model['head'] |= dict(num_classes=people)
    if not row.fdr:
        model['head'] |= dict(in_channels=blocks.channels[-1])
        model |= dict(neck=dict(type='mmpretrain.GlobalAveragePooling'))
    return model
