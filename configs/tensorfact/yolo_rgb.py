# RGB stage: a YOLOv7-L for the classes of FLIR, trained on COCO (FLIR's RGB frames have
# no labels).
_base_ = [
    '../_base_/models/yolov7_l.py',
    '../_base_/datasets/coco_ir.py',
    '../_base_/schedules/adam_200e.py',
    '../_base_/runtime/det.py',
]

# ========================== values one often changes ==========================
data_root = 'data/coco/'
train_ann = 'annotations/instances_train2017.json'
train_img = 'train2017/'
val_ann = 'annotations/instances_val2017.json'
val_img = 'val2017/'
classes = ('person', 'bicycle', 'car')
load_from = None  # e.g. released COCO weights
base_lr = 1e-5  # paper, for a pretrained detector; from scratch use 1e-3

# ========================= values that rarely change ==========================
img_scale = (640, 640)
model = dict(bbox_head=dict(head_module=dict(num_classes=len(classes))))
train_pipeline = [
    dict(type='Mosaic', img_scale=img_scale, pad_val=114.0),
    dict(
        type='mmir.CenteredRandomAffine',
        max_rotate_degree=0.0,
        max_shear_degree=0.0,
        max_translate_ratio=0.2,
        scaling_ratio_range=(0.1, 2.0),
        border=(-img_scale[0] // 2, -img_scale[1] // 2),
    ),
    dict(type='CachedMixUp', img_scale=img_scale, pad_val=114.0, prob=0.15),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.Resize', scale=img_scale, keep_ratio=True),
    dict(type='mmdet.Pad', size=img_scale, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_root=data_root,
            ann_file=train_ann,
            data_prefix=dict(img=train_img),
            metainfo=dict(classes=classes),
            on_bad_box='drop',
            filter_cfg=dict(filter_empty_gt=True),  # COCO images without these classes
        ),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file=val_ann,
        data_prefix=dict(img=val_img),
        metainfo=dict(classes=classes),
        on_bad_box='drop',
    )
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=base_lr))
demo = dict(data='street', modality='rgb')  # synthetic data of `--demo`
