# The RGB detector of the demo: YOLOv7-tiny from scratch on synthetic street scenes by
# day, objects within 30 m. Render them first:
#   python -m mmir.testing.scenes data/scenes --train 2400 --val 150 \
#       --far 30 --light day
_base_ = './yolo-tiny_rgb.py'

# ========================== values one often changes ==========================
data_root = 'data/scenes/'
max_epochs = 12
batch_size = 8

# =========================== values one may change ============================
img_scale = (320, 320)

# ========================= values that rarely change ==========================
pad = dict(img=(114.0, 114.0, 114.0))
# With many different scenes, crops replace mosaics: 256 px wide, up to 320 px high.
train_pipeline = [
    dict(
        type='RandomResize',
        scale=img_scale,
        ratio_range=(0.9, 1.6),
        keep_ratio=True,
        resize_type='mmdet.Resize',
    ),
    dict(type='mmdet.RandomCrop', crop_size=(256, 320), allow_negative_crop=True),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.Pad', size=(320, 256), pad_val=pad),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    _base_.image,
    dict(type='mmdet.Resize', scale=img_scale, keep_ratio=True),
    dict(type='mmir.PadToStride', divisor=32),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(
        type='mmdet.PackDetInputs',
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
data = dict(
    type='mmir.FLIRDataset',
    data_root=data_root,
    ann_file='train/rgb_annotations.json',
    data_prefix=dict(img='train/'),
)
test_data = dict(
    data,
    ann_file='val/rgb_annotations.json',
    data_prefix=dict(img='val/'),
    pipeline=test_pipeline,
)
model = dict(bbox_head=dict(obj_weight=0.25))  # 1.0 at 640 px
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    dataset=dict(dataset=data, pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=1, dataset=test_data)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        begin=0,
        end=1,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.02,
        begin=1,
        end=max_epochs,
        T_max=max_epochs - 1,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
