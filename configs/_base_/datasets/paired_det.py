# RGB+infrared detection in FLIR layout: labeled thermal images, registered RGB frames.

# ========================== values one often changes ==========================
data_root = 'data/FLIR_aligned/'
train_ann = 'train/thermal_annotations.json'  # or one with the labels of both cameras
val_ann = 'val/thermal_annotations.json'
classes = ('person', 'bicycle', 'car')
img_scale = (640, 640)  # width, height of the network input in training
batch_size = 16  # over all GPUs of one machine
num_workers = 4

# ========================= values that rarely change ==========================
images = dict(type='mmir.LoadPairedImages', modalities=dict(rgb=dict(), ir=dict()))
load = [images, dict(type='mmdet.LoadAnnotations', with_bbox=True)]
train_pipeline = [
    dict(
        type='mmir.PairedTransform',
        transforms=dict(type='Mosaic', img_scale=img_scale, pad_val=114.0),
    ),
    dict(
        type='mmir.PairedTransform',
        transforms=dict(
            type='mmir.CenteredRandomAffine',
            max_rotate_degree=0.0,
            max_shear_degree=0.0,
            max_translate_ratio=0.1,
            scaling_ratio_range=(0.5, 1.6),
            border=(-img_scale[0] // 2, -img_scale[1] // 2),
        ),
    ),
    dict(
        type='mmir.OnModality',
        modality='rgb',
        transforms=dict(type='YOLOXHSVRandomAug'),
    ),
    # grayscale images have no hue or saturation: only brightness is augmented
    dict(
        type='mmir.OnModality',
        modality='ir',
        transforms=dict(
            type='YOLOXHSVRandomAug', hue_delta=0, saturation_delta=0, value_delta=30
        ),
    ),
    dict(
        type='mmir.PairedTransform',
        transforms=[
            dict(type='mmdet.RandomFlip', prob=0.5),
            dict(type='mmdet.Resize', scale=img_scale, keep_ratio=True),
            dict(type='mmdet.Pad', size=img_scale, pad_val=dict(img=114)),
        ],
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False),
    dict(type='mmir.PackPairedInputs'),
]
test_pipeline = [
    images,
    dict(
        type='mmir.PairedTransform',
        transforms=[
            dict(type='mmdet.Resize', scale=img_scale, keep_ratio=True),
            dict(type='mmir.PadToStride', divisor=32),
        ],
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
        type='mmir.PairedMixDataset',
        dataset=dict(
            type='mmir.FLIRDataset',
            modality='both',
            data_root=data_root,
            ann_file=train_ann,
            data_prefix=dict(img='train/'),  # file names are relative to this folder
            metainfo=dict(classes=classes),
            pipeline=load,
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmir.FLIRDataset',
        modality='both',
        data_root=data_root,
        ann_file=val_ann,
        data_prefix=dict(img='val/'),
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', metric='bbox', format_only=False)
test_evaluator = val_evaluator
