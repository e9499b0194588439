# Single-camera detection in COCO format or FLIR layout. Entry configs set the paths.
# Names that also exist in mmcv or another host are prefixed: in a config based on
# `mmir::...`, mmengine resolves names from the scope of mmir.
img_scale = (640, 640)  # width, height of the network input in training
batch_size = 40  # over all GPUs of one machine; 40 as in the paper
num_workers = 4

# mmir's reader, under the name that the Inferencers of the hosts look for
image = dict(type='LoadImageFromFile', _scope_='mmir')
load = [image, dict(type='mmdet.LoadAnnotations', with_bbox=True)]
train_pipeline = [
    dict(type='Mosaic', img_scale=img_scale, pad_val=114.0),
    dict(
        type='mmir.CenteredRandomAffine',
        max_rotate_degree=0.0,
        max_shear_degree=0.0,
        max_translate_ratio=0.1,
        scaling_ratio_range=(0.5, 1.5),
        border=(-img_scale[0] // 2, -img_scale[1] // 2),
    ),
    # grayscale images have no hue or saturation: only brightness is augmented
    dict(type='YOLOXHSVRandomAug', hue_delta=0, saturation_delta=0, value_delta=30),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.Resize', scale=img_scale, keep_ratio=True),
    dict(type='mmdet.Pad', size=img_scale, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    image,
    dict(type='mmdet.Resize', scale=img_scale, keep_ratio=True),
    dict(type='mmir.PadToStride', divisor=32),  # 640x512 becomes 672x544, as published
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmdet.PackDetInputs',
        # `instances` lets the metric use exactly the boxes of the dataset
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
            'instances',
        ),
    ),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmdet.MultiImageMixDataset',
        dataset=dict(type='mmir.CocoSubsetDataset', pipeline=load),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=num_workers,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mmir.CocoSubsetDataset', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', metric='bbox', format_only=False)
test_evaluator = val_evaluator
