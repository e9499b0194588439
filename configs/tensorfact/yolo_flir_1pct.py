# Infrared stage: an RGB YOLOv7-L learns FLIR's thermal camera from 62 labelled images.
_base_ = [
    '../_base_/models/yolov7_l.py',
    '../_base_/datasets/coco_ir.py',
    '../_base_/schedules/adam_200e.py',
    '../_base_/runtime/det.py',
]

# ========================== values one often changes ==========================
data_root = 'data/FLIR_ADAS_1_3/'
train_ann = 'train/thermal_annotations.json'
train_img = 'train/'  # file names in the annotations continue from here
val_ann = 'val/thermal_annotations.json'
val_img = 'val/'
classes = ('person', 'bicycle', 'car')
subset = dict(num=62, seed=0)  # 62 images are the paper's 1 %
load_from = 'work_dirs/yolo_rgb/epoch_200.pth'  # the RGB stage

# =========================== values one may change ============================
# One 3x3 kernel is stored as `rank` patterns and their mixture. alpha=1 keeps as many
# parameters as the dense kernel has: rank 8 of at most 9.
rank = dict(alpha=1.0)
delta_rank = 1  # 7.4 % of the parameters of the dense network

# ========================= values that rarely change ==========================
model = dict(
    type='mmir.factorized',
    target='mmir.YOLOv7',
    factorize=dict(
        rank=rank,
        mode='auto',  # 'reconstruct': bit-equal to the merged network
        exclude=['bbox_head'],
        delta=dict(name='ir', rank=delta_rank),
        trainable=['bbox_head'],
        bn='all',  # thermal statistics differ
    ),
    bbox_head=dict(head_module=dict(num_classes=len(classes))),
)
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            type='mmir.FLIRDataset',
            data_root=data_root,
            ann_file=train_ann,
            data_prefix=dict(img=train_img),
            metainfo=dict(classes=classes),
            subset=subset,
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        type='mmir.FLIRDataset',
        data_root=data_root,
        ann_file=val_ann,
        data_prefix=dict(img=val_img),
        metainfo=dict(classes=classes),
    )
)
test_dataloader = val_dataloader
demo = dict(data='street', modality='ir')  # what `--demo` renders instead
