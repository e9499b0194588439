# RGB stage of YOLOv7-tiny, from scratch.
_base_ = './yolo_rgb.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3))  # 1e-5 is for a pretrained detector
model = dict(
    backbone=dict(arch='tiny'),
    neck=dict(arch='tiny'),
    bbox_head=dict(
        head_module=dict(in_channels=(128, 256, 512)),
        obj_weight=1.0,  # at 640 px
        cls_weight=0.5,
    ),
)
# tiny uses milder augmentation than L
img_scale = (640, 640)
train_pipeline = [
    dict(type='Mosaic', img_scale=img_scale, pad_val=114.0),
    dict(
        type='mmir.CenteredRandomAffine',
        max_rotate_degree=0.0,
        max_shear_degree=0.0,
        max_translate_ratio=0.1,
        scaling_ratio_range=(0.5, 1.6),
        border=(-img_scale[0] // 2, -img_scale[1] // 2),
    ),
    dict(type='CachedMixUp', img_scale=img_scale, pad_val=114.0, prob=0.05),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.Resize', scale=img_scale, keep_ratio=True),
    dict(type='mmdet.Pad', size=img_scale, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
