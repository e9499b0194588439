# RGB+infrared segmentation of street scenes at 640 x 480, the size of the images:
# MFNet, 9 classes.

# ========================== values one often changes ==========================
data_root = 'data/ir_seg_dataset/'
crop_size = (480, 640)  # height, width of the network input in training
batch_size = 8  # over all GPUs of one machine
num_workers = 4

# ========================= values that rarely change ==========================
# Both cameras are planes of one file. Infrared gets three equal channels.
load = dict(
    type='mmir.LoadPairedImages',
    modalities=dict(rgb=dict(planes=(0, 3)), ir=dict(planes=(3, 4), channels=3)),
)
labels = dict(type='mmseg.LoadAnnotations')
finish = [
    dict(
        type='mmir.OnModality',
        modality='rgb',
        transforms=dict(type='mmseg.PhotoMetricDistortion'),
    ),
    dict(
        type='mmir.OnModality',
        modality='ir',
        transforms=dict(  # contrast and brightness
            type='mmir.RandomThermalDrift',
            gain=(0.8, 1.2),
            offset=(-0.1, 0.1),
            value_range=(0, 255),
        ),
    ),
    dict(type='mmir.PackPairedInputs'),
]
train_steps = [
    labels,
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
    *finish,
]
test_steps = [labels, dict(type='mmir.PackPairedInputs')]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmir.MFNetDataset',
        data_root=data_root,
        split='train',
        pipeline=[load, *train_steps],
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmir.MFNetDataset',
        data_root=data_root,
        split='val',
        test_mode=True,
        pipeline=[load, *test_steps],
    ),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmir.MFNetDataset',
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=[load, *test_steps],
    ),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
demo = dict(data='MFNet')  # synthetic data of `--demo`
