# A stock detector: mmdet's RTMDet-tiny, trained on COCO, is adapted to FLIR's thermal
# camera with 62 labeled images.
_base_ = [
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
]

# ========================== values one often changes ==========================
data_root = 'data/FLIR_ADAS_1_3/'
classes = ('person', 'bicycle', 'car')
subset = dict(num=62, seed=0)
load_from = 'work_dirs/rtmdet_tiny_coco.pth'  # mmdet's COCO checkpoint
max_epochs = 200
base_lr = 1e-3

# =========================== the lines of the method ==========================
custom_imports = dict(imports=['mmir'], allow_failed_imports=False)
norm_cfg = dict(type='BN')  # SyncBN needs GPUs
model = dict(
    type='mmir.Adapted',
    target='mmdet.RTMDet',
    adapt=dict(type='ConvLoRA', rank=4),
    backbone=dict(norm_cfg=norm_cfg, init_cfg=None),
    neck=dict(norm_cfg=norm_cfg),
    bbox_head=dict(num_classes=len(classes), norm_cfg=norm_cfg),
)

# ================================= the data ==================================
# mmir's reader, under the name that the Inferencers of the hosts look for
image = dict(type='LoadImageFromFile', _scope_='mmir')
test_pipeline = [
    image,
    dict(type='mmdet.Resize', scale=(640, 640), keep_ratio=True),
    dict(type='mmdet.Pad', size=(640, 640), pad_val=dict(img=(114, 114, 114))),
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
train_cfg = dict(max_epochs=max_epochs, val_interval=20, dynamic_intervals=None)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=80),
    dict(
        type='CosineAnnealingLR',
        eta_min=base_lr * 0.05,
        begin=max_epochs // 2,
        end=max_epochs,
        T_max=max_epochs // 2,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [
    dict(type='mmir.SubsetRecordHook'),
    dict(type='mmir.AdapterCheckpointHook'),
    dict(type='mmir.ScheduleEMAHook', update_buffers=True, priority=49),
    dict(
        type='PipelineSwitchHook',
        switch_epoch=max_epochs - max_epochs // 10,
        switch_pipeline=[image, *_base_.train_pipeline_stage2[1:]],
    ),
]
demo = dict(data='street', modality='ir')  # synthetic data of `--demo`
