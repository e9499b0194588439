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
    *_base_.train_pipeline[2:],  # after mosaic and affine
]
train_dataloader = dict(batch_size=batch_size, dataset=dict(pipeline=train_pipeline))
