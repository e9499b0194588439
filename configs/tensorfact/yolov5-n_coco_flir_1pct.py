# YOLOv5n, trained on COCO, is adapted to FLIR's thermal camera with 62 labeled images.
# Everything trains: that did better than adapters on 62 street images (figures in
# docs/results/tensorfact.md), and so did half the steps: --cfg-options max_epochs=13.
# First convert the checkpoint and keep the rows of the three classes:
#   python tools/model_converters/yolov5.py yolov5n.pt yolov5n.pth
#   python tools/model_converters/keep_classes.py CONFIG yolov5n.pth TARGET
_base_ = [
    '../_base_/models/yolov5_n.py',
    '../_base_/datasets/coco_ir_zoom.py',
    '../_base_/schedules/adam_25e.py',
    '../_base_/runtime/det.py',
]

# ========================== values one often changes ==========================
data_root = 'data/FLIR_ADAS_1_3/'
classes = ('person', 'bicycle', 'car')
subset = dict(num=62, seed=0)
load_from = 'work_dirs/yolov5-n_coco3.pth'  # from keep_classes.py

# =========================== values one may change ============================
base_lr = 3e-4  # 1e-3 loses 6 points of mAP50

# ========================= values that rarely change ==========================
model = dict(
    type='mmir.Adapted',
    target='mmir.YOLOv5',
    adapt=dict(type='Full'),
    bbox_head=dict(head_module=dict(num_classes=len(classes))),
)
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            type='mmir.FLIRDataset',
            data_root=data_root,
            ann_file='train/thermal_annotations.json',
            data_prefix=dict(img='train/'),
            metainfo=dict(classes=classes),
            subset=subset,
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        type='mmir.FLIRDataset',
        data_root=data_root,
        ann_file='val/thermal_annotations.json',
        data_prefix=dict(img='val/'),
        metainfo=dict(classes=classes),
    )
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=base_lr))
demo = dict(data='street', modality='ir')  # synthetic data of `--demo`
