"""Seven blocks of a network, by which TOPLight says what each path has of its own.

[1] "TOPLight: lightweight neural networks with task-oriented pretraining for
visible-infrared recognition", CVPR 2023, table 1.
"""

from collections.abc import Iterator
from typing import NamedTuple

from mmir.utils.errors import UserError

Names = tuple[str, ...]


class Partition(NamedTuple):
    """Blocks of a network. Blocks of convolutions end at strides 2, 4, 4, 8, 16, 32.

    Attributes:
        blocks: Names of the modules of blocks 1 to 7, in the order in which they run.
            What has no weights is left out. Transformers list their stem only.
        channels: Channels after block 4 and after block 7.
    """

    blocks: tuple[Names, ...]
    channels: tuple[int, int]

    @property
    def stem(self) -> Names:
        """Names of the modules of block 1: the stem of each modality."""
        return self.blocks[0]

    @property
    def paths(self) -> Names:
        """Names of the modules of blocks 1 to 4, which each path has of its own."""
        return sum(self.blocks[:4], ())

    @property
    def soup(self) -> Names:
        """Names of the modules of blocks 2 to 4, which the soup averages."""
        return sum(self.blocks[1:4], ())


def _layers(*ends: int) -> tuple[Names, ...]:
    """Blocks of layers of MobileNetV3 that end before the given numbers."""
    starts = (0, *ends[:-1])
    return tuple(
        tuple(f'layer{k}' for k in range(start, end))
        for start, end in zip(starts, ends, strict=True)
    )


def _ghost(*ends: int) -> tuple[Names, ...]:
    """Blocks of timm's GhostNet that end before the given stages."""
    starts = (0, *ends[:-1])
    blocks = [
        tuple(f'timm_model.blocks.{k}' for k in range(start, end))
        for start, end in zip(starts, ends, strict=True)
    ]
    stem = ('timm_model.conv_stem', 'timm_model.bn1')
    return stem + blocks[0], *blocks[1:-1], (*blocks[-1], 'timm_model.conv_head')


_MOBILENET_V2 = (
    ('conv1', 'layer1'),
    ('layer2.0',),
    ('layer2.1',),
    ('layer3',),
    ('layer4', 'layer5'),
    ('layer6', 'layer7'),
    ('conv2',),
)
_SHUFFLENET = (
    ('conv1',),
    (),
    (),
    ('layers.0',),
    ('layers.1',),
    ('layers.2',),
    ('layers.3',),
)
_RESNET = (('conv1', 'bn1'), (), ('layer1',), ('layer2',), ('layer3',), ('layer4',), ())
_CONVNEXT = (
    ('downsample_layers.0',),
    (),
    ('stages.0',),
    ('downsample_layers.1', 'stages.1'),
    ('downsample_layers.2', 'stages.2'),
    ('downsample_layers.3', 'stages.3'),
    ('norm3',),
)
_LIGHT_CNN = (  # strides 1, 2, 2, 4, 8, 8 and 8, each before its pooling
    ('conv1',),
    ('block1', 'group1'),
    (),
    ('block2', 'group2'),
    ('block3', 'group3'),
    ('block4', 'group4'),
    (),
)
_SMALL = _layers(1, 2, 2, 4, 9, 12, 14)
_GHOST = _ghost(1, 2, 3, 5, 7, 9, 10)

PARTITIONS = {
    'mobilenetv3_large': Partition(_layers(2, 3, 4, 7, 13, 16, 18), (40, 1280)),
    'mobilenetv3_small': Partition(_SMALL, (24, 1024)),
    'mobilenetv3_small_050': Partition(_SMALL, (16, 1024)),  # of demos
    'mobilenetv2': Partition(_MOBILENET_V2, (32, 1280)),
    'ghostnet_1.0x': Partition(_GHOST, (40, 1280)),
    'ghostnet_1.3x': Partition(_GHOST, (52, 1280)),
    'shufflenetv2_1.0x': Partition(_SHUFFLENET, (116, 1024)),
    'shufflenetv2_1.5x': Partition(_SHUFFLENET, (176, 1024)),
    'lightcnn29': Partition(_LIGHT_CNN, (192, 128)),
    'resnet50': Partition(_RESNET, (512, 2048)),
    'convnext_tiny': Partition(_CONVNEXT, (192, 768)),
    'swin_tiny': Partition(
        (('patch_embed.projection', 'patch_embed.norm'),), (768, 768)
    ),
    'vit_base': Partition((('patch_embed.projection',),), (768, 768)),
}
"""Name of a network -> its blocks. The row of MobileNetV3-L is the paper's [1], the
others follow its rule by the strides. To add a network, add a row."""


def partition_of(network: str) -> Partition:
    """Look up the blocks of a network.

    Args:
        network (str): A name of :data:`PARTITIONS`.

    Returns:
        Partition: Its blocks.

    Raises:
        UserError: There is no such row.
    """
    if network not in PARTITIONS:
        raise UserError(f'network={network!r}: choose one of {[*PARTITIONS]}')
    return PARTITIONS[network]


def dual_path_networks() -> Iterator[str]:
    """Yield the networks with all seven blocks."""
    return (name for name, row in PARTITIONS.items() if len(row.blocks) == 7)
