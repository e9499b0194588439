# RGB+infrared segmentation of street scenes: MSRS.

# ========================== values one often changes ==========================
data_root = 'data/MSRS/'
crop_size = (480, 480)  # height, width of the network input in training
batch_size = 8  # over all GPUs of one machine
num_workers = 4

# ========================= values that rarely change ==========================
load = [
    dict(
        type='mmir.LoadPairedImages',
        modalities=dict(rgb=dict(), ir=dict(channels=1)),
    ),
    dict(type='mmseg.LoadAnnotations'),
]
train_pipeline = [
    *load,
    dict(
        type='mmir.PairedTransform',
        transforms=[
            dict(
                type='RandomResize',
                scale=(640, 480),
                ratio_range=(0.5, 2.0),
                keep_ratio=True,
            ),
            dict(type='mmseg.RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
            dict(type='mmseg.RandomFlip', prob=0.5),
        ],
    ),
    dict(
        type='mmir.OnModality',
        modality='rgb',
        transforms=dict(type='mmseg.PhotoMetricDistortion'),
    ),
    dict(type='mmir.PackPairedInputs'),
]
test_pipeline = [*load, dict(type='mmir.PackPairedInputs')]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmir.MSRSDataset',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmir.MSRSDataset',
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
