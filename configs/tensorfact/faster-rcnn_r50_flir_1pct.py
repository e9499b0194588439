# A stock two-stage detector: mmdet's Faster R-CNN R50, trained on COCO, is adapted to
# FLIR's thermal camera with 62 labeled images.
_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
]

# ========================== values one often changes ==========================
data_root = 'data/FLIR_ADAS_1_3/'
classes = ('person', 'bicycle', 'car')
subset = dict(num=62, seed=0)
load_from = 'work_dirs/faster-rcnn_r50_coco.pth'  # mmdet's COCO checkpoint
max_epochs = 100

# =========================== the lines of the method ==========================
custom_imports = dict(imports=['mmir'], allow_failed_imports=False)
model = dict(
    type='mmir.Adapted',
    target='mmdet.FasterRCNN',
    adapt=dict(type='ConvLoRA', rank=12),
    backbone=dict(init_cfg=None, frozen_stages=-1),
    roi_head=dict(bbox_head=dict(num_classes=len(classes))),
)

# ================================= the data ==================================
# mmir's reader, under the name that the Inferencers of the hosts look for
image = dict(type='LoadImageFromFile', _scope_='mmir')
test_pipeline = [
    image,
    dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True),
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
    _delete_=True,
    type='mmir.FLIRDataset',
    data_root=data_root,
    ann_file='train/thermal_annotations.json',
    data_prefix=dict(img='train/'),
    metainfo=dict(classes=classes),
    subset=subset,
    pipeline=[image, *_base_.train_pipeline[1:]],
)
train_dataloader = dict(batch_size=8, num_workers=4, dataset=data)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmir.FLIRDataset',
        data_root=data_root,
        ann_file='val/thermal_annotations.json',
        data_prefix=dict(img='val/'),
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=None)  # evaluate the boxes loaded by the dataset
test_evaluator = val_evaluator

# ================================ the schedule ===============================
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=80),
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_epochs,
        by_epoch=True,
        milestones=[max_epochs * 2 // 3, max_epochs * 9 // 10],
        gamma=0.1,
    ),
]
custom_hooks = [
    dict(type='mmir.SubsetRecordHook'),
    dict(type='mmir.AdapterCheckpointHook'),
]
demo = dict(data='street', modality='ir')  # synthetic data of `--demo`
