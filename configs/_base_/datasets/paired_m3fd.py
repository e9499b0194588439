# RGB+infrared detection: M3FD, converted by tools/dataset_converters/m3fd.py. One
# geometric draw for both images and no photometric augmentation, as in the published
# code of IV-tuning, which scales the short side to 480..800 px, the long side to 640.

# ========================== values one often changes ==========================
data_root = 'data/M3FD/'
batch_size = 2  # on one GPU
num_workers = 4

# ========================= values that rarely change ==========================
images = dict(type='mmir.LoadPairedImages', modalities=dict(rgb=dict(), ir=dict()))
short_sides = dict(
    type='RandomChoiceResize',
    scales=[(side, 640) for side in range(480, 801, 32)],
    resize_type='mmdet.Resize',
    keep_ratio=True,
)
train_pipeline = [
    images,
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmir.PairedTransform',
        transforms=[
            dict(type='mmdet.RandomFlip', prob=0.5),
            dict(
                type='RandomChoice',
                transforms=[
                    [short_sides],
                    [
                        dict(
                            type='RandomChoiceResize',
                            scales=[(400, 4200), (500, 4200), (600, 4200)],
                            resize_type='mmdet.Resize',
                            keep_ratio=True,
                        ),
                        dict(
                            type='mmdet.RandomCrop',
                            crop_type='absolute_range',
                            crop_size=(384, 600),
                            allow_negative_crop=True,
                        ),
                        short_sides,
                    ],
                ],
            ),
        ],
    ),
    dict(type='mmir.PackPairedInputs'),
]
test_pipeline = [
    images,
    dict(
        type='mmir.PairedTransform',
        transforms=dict(type='mmdet.Resize', scale=(640, 640), keep_ratio=True),
    ),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    # `instances` lets the metric use exactly the boxes of the dataset
    dict(type='mmir.PackPairedInputs', meta_keys=('instances',)),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmir.M3FDDataset',
        modality='both',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmir.M3FDDataset',
        modality='both',
        data_root=data_root,
        split='val',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', metric='bbox', format_only=False)
test_evaluator = val_evaluator
demo = dict(data='M3FD')  # synthetic data of `--demo`
