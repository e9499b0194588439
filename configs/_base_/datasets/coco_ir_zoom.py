# As coco_ir.py, for short runs from a COCO detector: single images, zoomed in or out,
# in small batches. At a few hundred steps mosaics were no better, and slower to make.
_base_ = './coco_ir.py'

# ========================== values one often changes ==========================
img_scale = (640, 640)  # width, height of the network input in training
batch_size = 4  # many small steps did better than few large ones

# ========================= values that rarely change ==========================
train_pipeline = [
    dict(
        type='RandomResize',
        scale=img_scale,
        ratio_range=(0.6, 1.6),
        keep_ratio=True,
        resize_type='mmdet.Resize',
    ),
    dict(type='mmdet.RandomCrop', crop_size=img_scale, allow_negative_crop=True),
    # grayscale images have no hue or saturation: only brightness is augmented
    dict(type='YOLOXHSVRandomAug', hue_delta=0, saturation_delta=0, value_delta=30),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.Pad', size=img_scale, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(batch_size=batch_size, dataset=dict(pipeline=train_pipeline))
