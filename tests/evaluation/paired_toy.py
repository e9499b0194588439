"""Paired test data without a host: packed samples, a toy model, a metric."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform, Compose
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from mmir.structures import split_modalities
from mmir.transforms import PackPairedInputs
from mmir.transforms.missing import DropModality  # noqa: F401 (registers it)

CHANNELS = dict(rgb=3, ir=1, depth=1)


@TRANSFORMS.register_module()
class PackToy(BaseTransform):
    """What a host's packer does."""

    meta_keys = ('img_path', 'flip', 'flip_direction')

    def transform(self, results):
        meta = {key: results[key] for key in self.meta_keys if key in results}
        img = torch.from_numpy(results['img'].transpose(2, 0, 1).copy())
        sample = BaseDataElement(metainfo=meta, label=torch.tensor(results['label']))
        return dict(inputs=img, data_samples=sample)


class ToySet(Dataset):
    """Random images in a pipeline that ends with `PackPairedInputs`."""

    metainfo = dict(classes=('thing',))

    def __init__(self, length=5, names=('rgb', 'ir'), steps=(), **options):
        self.length, self.names, self.options = length, tuple(names), options
        self.pipeline = Compose(
            [*steps, PackPairedInputs(dict(type='PackToy'), meta_keys=('flip',))]
        )

    def __len__(self):
        return self.length

    def raw(self, index):
        rng = np.random.default_rng(index)
        dtype = self.options.get('dtype', np.uint8)
        imgs = {
            name: rng.integers(40, 220, (16, 20, CHANNELS[name])).astype(dtype)
            for name in self.names
        }
        absent = self.options.get('absent', {}).get(index, ())
        for name in absent:
            imgs[name][:] = 0
        paths = {name: f'/data/{name}/{index}.png' for name in self.names}
        lead = self.options.get('reference', self.names[0])
        return dict(
            modalities=self.names,
            imgs=imgs,
            img_paths=paths,
            img_path=paths[lead],
            absent=absent,
            label=index,
        )

    def __getitem__(self, index):
        return self.pipeline(self.raw(index))


class ToyViews(ToySet):
    """Each image and its mirror image, as test-time augmentation packs them."""

    def __getitem__(self, index):
        plain, mirrored = self.raw(index), self.raw(index)
        mirrored['imgs'] = {k: v[:, ::-1].copy() for k, v in mirrored['imgs'].items()}
        mirrored |= dict(flip=True, flip_direction='horizontal')
        views = [self.pipeline(plain), self.pipeline(mirrored)]
        return {key: [view[key] for view in views] for key in views[0]}


class ToyModel(BaseModel):
    """Measures each modality and keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = []
        for img, sample in zip(inputs, data_samples, strict=True):
            meta = sample.metainfo
            self.seen.append((img.clone(), sample))
            parts = split_modalities(img.double(), meta)
            marks = {f'{name}_mean': part.mean() for name, part in parts.items()}
            marks |= {f'{n}_rough': p.diff(dim=-1).std() for n, p in parts.items()}
            marks |= {
                f'{name}_absent': torch.tensor(float(name in meta['absent']))
                for name in parts
            }
            out.append(BaseDataElement(metainfo=meta, label=sample.label, **marks))
        return out

    def test_step(self, data):
        """Mean over the views, where there are any."""
        if isinstance(data['data_samples'][0], BaseDataElement):
            return super().test_step(data)
        steps = [
            super(ToyModel, self).test_step(dict(inputs=x, data_samples=s))
            for x, s in zip(data['inputs'], data['data_samples'], strict=True)
        ]
        merged = []
        for views in zip(*steps, strict=True):
            keys = [key for key in views[0].keys() if key != 'label']  # noqa: SIM118
            means = {k: torch.stack([v.get(k) for v in views]).mean() for k in keys}
            merged.append(
                BaseDataElement(
                    metainfo=views[0].metainfo, label=views[0].label, **means
                )
            )
        return merged


class ToyMetric(BaseMetric):
    """Mean of what the model measured; the labels and the number of images."""

    default_prefix = 'toy'

    def process(self, data_batch, data_samples):
        self.results += [
            {key: value.item() for key, value in sample.items() if value.numel() == 1}
            for sample in (
                {k: v for k, v in s.items() if torch.is_tensor(v)} for s in data_samples
            )
        ]

    def compute_metrics(self, results):
        means = {key: float(np.mean([r[key] for r in results])) for key in results[0]}
        return means | dict(count=float(len(results)), names='text')


def toy_runner(
    folder, loop: dict, dataset: Dataset, hooks: Sequence = (), **loader
) -> Runner:
    """A runner that can only test."""
    loader = dict(batch_size=2, num_workers=0) | loader
    return Runner(
        model=ToyModel(),
        work_dir=str(folder),
        test_dataloader=dict(
            dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=False),
            **loader,
        ),
        test_cfg=loop,
        test_evaluator=ToyMetric(),
        custom_hooks=list(hooks),
        default_scope='mmengine',
        experiment_name=f'toy_{id(dataset)}',
        log_level='INFO',
    )
