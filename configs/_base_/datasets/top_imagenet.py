# Two views of each image of a folder per class: colors changed for path 1; gray, with
# other texture, for path 2. From the paper: which augmentations. Strengths are ours.

# ========================== values one often changes ==========================
data_root = 'data/ImageNet-mini'  # train/CLASS/*.JPEG and val/CLASS/*.JPEG
batch_size = 256  # of one process
num_workers = 8

# ========================= values that rarely change ==========================
size = 224
load = dict(type='LoadImageFromFile', _scope_='mmir')
generic = [  # of both paths
    dict(type='mmpretrain.RandomResizedCrop', scale=size, crop_ratio_range=(0.5, 1.0)),
    dict(type='mmir.TOPAugment', deform=dict(prob=0.3, alpha=30, sigma=5)),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
]
jitter = dict(
    type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
)
color = [
    dict(type='mmengine.RandomApply', transforms=[jitter], prob=0.8),
    dict(type='mmir.TOPAugment', shuffle=dict(prob=0.5), shift=dict(prob=0.5, most=30)),
]
gray = dict(type='mmpretrain.RandomGrayscale', prob=1.0, keep_channels=True)
texture = [
    dict(
        type='mmir.TOPAugment',
        compress=dict(prob=0.5, quality=(20, 80)),
        defocus=dict(prob=0.3, radius=(1, 5)),
        sharpen=dict(prob=0.5, alpha=(0.2, 0.5)),
    ),
    gray,
]
center = [
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short'),
    dict(type='mmpretrain.CenterCrop', crop_size=size),
]
pack = dict(type='mmpretrain.PackInputs')
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmir.ImageFolder',
        data_root=data_root,
        data_prefix='train',
        pipeline=[
            load,
            dict(
                type='mmpretrain.MultiView',
                num_views=[1, 1],
                transforms=[[*generic, *color], [*generic, *texture]],
            ),
            pack,
        ],
    ),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmir.ImageFolder',
        data_root=data_root,
        data_prefix='val',
        pipeline=[
            load,
            dict(
                type='mmpretrain.MultiView',
                num_views=[1, 1],
                transforms=[center, [*center, gray]],
            ),
            pack,
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
test_evaluator = val_evaluator
demo = dict(data='crops')  # crops of synthetic street scenes for `--demo`
