# LightCNN-29 on faces: "B" of the paper's table 8. --cfg-options data_root=... for
# another dataset, num_classes=50 for BUAA-VisNir.
_base_ = [
    '../_base_/datasets/faces.py',
    '../_base_/schedules/sgd_15e_faces.py',
    '../_base_/runtime/reid.py',
]

num_classes = 20  # training identities of Oulu-CASIA NIR-VIS
checkpoint = 'checkpoints/LightCNN_29Layers_checkpoint.pth.tar'  # of its authors
model = dict(
    type='mmir.MirroredVIReID',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmir.TwoStemBackbone',
        backbone=dict(
            type='mmir.LightCNN',
            size=128,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        stem=('conv1',),
    ),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmir.VIReIDHead',
        num_classes=num_classes,
        in_channels=256,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        cal_acc=True,
    ),
)
