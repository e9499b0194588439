# Infrared stage: adapts an RGB YOLOv7-L to FLIR's thermal camera with 62 labeled
# images. Frozen convolutions with low-rank updates, the best recipe in
# docs/results/tensorfact.md. TensorFact as published: yolo_flir_1pct_tensorfact.py.
_base_ = [
    '../_base_/models/yolov7_l.py',
    '../_base_/datasets/coco_ir.py',
    '../_base_/schedules/adam_200e.py',
    '../_base_/runtime/det.py',
]

# ========================== values one often changes ==========================
data_root = 'data/FLIR_ADAS_1_3/'
train_ann = 'train/thermal_annotations.json'
train_img = 'train/'  # prefix of the file names in the annotations
val_ann = 'val/thermal_annotations.json'
val_img = 'val/'
classes = ('person', 'bicycle', 'car')
subset = dict(num=62, seed=0)  # 62 images are the paper's 1 %
load_from = 'work_dirs/yolo_rgb/epoch_200.pth'  # the RGB stage

# =========================== values one may change ============================
rank = 12  # of the updates; about 4 % of the parameters train
base_lr = 3e-3  # of Adam

# ========================= values that rarely change ==========================
model = dict(
    type='mmir.Adapted',
    target='mmir.YOLOv7',
    adapt=dict(
        type='ConvLoRA',
        rank=rank,
        exclude=['bbox_head'],
        name='ir',
        trainable=['bbox_head'],
        norm='all',  # thermal statistics differ
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
optim_wrapper = dict(optimizer=dict(lr=base_lr))
demo = dict(data='street', modality='ir')  # synthetic data of `--demo`
