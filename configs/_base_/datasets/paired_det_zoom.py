# As paired_det.py, for short runs from a COCO detector: single pairs, zoomed in or out,
# in small batches.
_base_ = './paired_det.py'

# ========================== values one often changes ==========================
img_scale = (640, 640)  # width, height of the network input in training
batch_size = 4  # over all GPUs of one machine

# ========================= values that rarely change ==========================
train_pipeline = [
    dict(
        type='mmir.PairedTransform',
        transforms=[
            dict(
                type='RandomResize',
                scale=img_scale,
                ratio_range=(0.6, 1.6),
                keep_ratio=True,
                resize_type='mmdet.Resize',
            ),
            dict(
                type='mmdet.RandomCrop', crop_size=img_scale, allow_negative_crop=True
            ),
        ],
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
train_dataloader = dict(batch_size=batch_size, dataset=dict(pipeline=train_pipeline))
