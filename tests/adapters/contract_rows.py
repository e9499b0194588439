"""Rows of the contract suite: methods x networks of three hosts."""

from functools import lru_cache, partial

import torch
from any_host import HOSTS, MMDET, MMPRETRAIN, Host, outputs
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmir.peft import BitFit, ConvLoRA, Frozen, Full
from mmir.tensorfact import TensorFact, factorize_
from mmir.testing.contract import Case


class YOLOv7Host(Host):
    """YOLOv7-tiny, which has no config of a host."""

    def model_config(self):
        from mmengine.config import Config

        from mmir.cli.stages import ROOT

        model = Config.fromfile(ROOT / 'configs/_base_/models/yolov7_l.py').model
        model.backbone.arch = model.neck.arch = 'tiny'
        head = dict(in_channels=(128, 256, 512), num_classes=4)
        model.bbox_head.head_module.update(head)
        return model


VIT = Host(
    **MMPRETRAIN,
    config='vision_transformer/vit-base-p32_64xb64_in1k-384px.py',
    small={
        'backbone.arch': dict(
            embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64
        ),
        'backbone.img_size': 64,
        'backbone.patch_size': 16,
        'head.in_channels': 32,
    },
)
NETWORKS = {
    'rtmdet': HOSTS['rtmdet'],
    'yolov7_tiny': YOLOv7Host(**MMDET, config=''),
    'faster_rcnn': HOSTS['faster_rcnn'],
    'deeplabv3plus': HOSTS['deeplabv3plus'],
    'mobilenet_v3': HOSTS['mobilenet_v3'],
    'vit': VIT,
}
METHODS = {
    'ConvLoRA': partial(ConvLoRA, rank=3),
    'TensorFact': partial(TensorFact, delta=1),
    'Full': Full,
    'Frozen': Frozen,
    'BitFit': BitFit,
}


@lru_cache(maxsize=1)
def _network(name: str) -> nn.Module:
    host = NETWORKS[name]
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(host.scope):
        # synchronized batch norm needs GPUs in distributed training
        model = revert_sync_batchnorm(MODELS.build(host.model_config()))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
    return model


def network(name: str) -> nn.Module:
    """Return a copy of a network, always with the same weights."""
    import copy

    return copy.deepcopy(_network(name))


def loss(host: Host, model: nn.Module) -> Tensor:
    """Return the sum of the losses of a batch, as in mmengine's training step."""
    inner = getattr(model, 'module', model)
    with DefaultScope.overwrite_default_scope(host.scope):
        data = inner.data_preprocessor(host.batch(), True)
        losses = model(**data, mode='loss')
    return inner.parse_losses(losses)[0]


def part(model: nn.Module) -> tuple[nn.Module, Tensor]:
    """The backbone and an image."""
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    return model.backbone, x


def case(method: str, name: str) -> Case:
    """Return the case of a method and a network."""
    host = NETWORKS[name]
    prepare = None
    if method == 'TensorFact':
        split = 't_sdd' if name in ('mobilenet_v3', 'vit') else 'ts_dd'
        # `auto` may take another path with a delta than without, with other rounding
        prepare = partial(factorize_, rank=2, split=split, mode='reconstruct')
    return Case(
        network=partial(network, name),
        method=METHODS[method],
        loss=partial(loss, host),
        outputs=partial(_outputs, host),
        part=part,
        prepare=prepare,
    )


def _outputs(host: Host, model: nn.Module) -> list[Tensor]:
    with DefaultScope.overwrite_default_scope(host.scope):
        return outputs(model, host.batch())
