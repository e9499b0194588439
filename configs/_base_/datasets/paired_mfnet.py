# RGB+infrared segmentation of street scenes at 512 px: MFNet, 9 classes. The sizes are
# those of mmseg's transformers on ADE20K: short side 512, crops of 512 x 512.

# ========================== values one often changes ==========================
data_root = 'data/ir_seg_dataset/'
crop_size = (512, 512)  # height, width of the network input in training
batch_size = 8  # over all GPUs of one machine
num_workers = 4

# ========================= values that rarely change ==========================
image_scale = (2048, 512)  # upper bound for the long side, for the short side
# Both cameras are planes of one file. Infrared gets three equal channels.
load = dict(
    type='mmir.LoadPairedImages',
    modalities=dict(
        rgb=dict(planes=(0, 3)),
        ir=dict(planes=(3, 4), channels=3),
    ),
)
train_steps = [
    dict(type='mmseg.LoadAnnotations'),
    dict(
        type='mmir.PairedTransform',
        transforms=[
            dict(
                type='RandomResize',
                scale=image_scale,
                ratio_range=(0.5, 2.0),
                keep_ratio=True,
            ),
            dict(type='mmseg.RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
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
test_steps = [
    dict(
        type='mmir.PairedTransform',
        transforms=dict(type='mmseg.Resize', scale=image_scale, keep_ratio=True),
    ),
    dict(type='mmseg.LoadAnnotations'),  # after Resize: measured at the original size
    dict(type='mmir.PackPairedInputs'),
]
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
    batch_size=1,
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
    batch_size=1,
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
