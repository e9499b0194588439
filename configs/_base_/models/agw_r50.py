# AGW (Ye et al., TPAMI 2021): ResNet-50 with a stem per modality, non-local blocks,
# GeM pooling, BNNeck. All numbers are those of its published code. The triplet loss is
# computed in a stable way, which the published code does not do.
num_classes = 395  # training identities of SYSU-MM01
checkpoint = 'torchvision://resnet50'  # ImageNet weights, or a file of yours
model = dict(
    type='mmir.VIReID',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmir.TwoStemBackbone',
        backbone=dict(
            type='mmir.NonLocalResNet',
            depth=50,
            strides=(1, 2, 2, 1),  # maps of 18x9 for images of 288x144
            non_local=(0, 2, 3, 0),
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        stem=('conv1', 'bn1'),
    ),
    neck=dict(
        type='mmpretrain.GeneralizedMeanPooling', p=3.0, eps=1e-6, p_trainable=False
    ),
    head=dict(
        type='mmir.VIReIDHead',
        num_classes=num_classes,
        in_channels=2048,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        metric=dict(wrt=dict(type='mmir.WRTLoss')),
        cal_acc=True,
    ),
)
