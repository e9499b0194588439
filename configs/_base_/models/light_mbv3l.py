# MobileNetV3-L with a stem per modality, mean pooling and BNNeck: what TOPLight begins
# with (row 1 of its table 3). The stem is block 1 of the paper's partition. Losses and
# head are those of AGW; the paper says "identity and triplet loss".

# ========================== values one often changes ==========================
num_classes = 395  # training identities of SYSU-MM01
# ImageNet weights (75.3 % there; the paper's have 75.2 %), or a file of yours
checkpoint = 'torchvision://mobilenet_v3_large.imagenet1k_v2'

# ========================= values that rarely change ==========================
fdr_neck = dict(  # of TOPLight, in place of the neck below
    type='mmir.FDRNeck',
    fdr=dict(
        in_channels=1280,
        slices=['rows', 'columns'],
        upsample=True,
        attention='shuffle',
        groups=64,
    ),
    pool=dict(type='mmpretrain.GlobalAveragePooling'),
)
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
            type='mmir.LightMobileNetV3',
            arch='large',
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        stem=('layer0', 'layer1'),
    ),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmir.VIReIDHead',
        num_classes=num_classes,
        in_channels=1280,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        metric=dict(wrt=dict(type='mmir.WRTLoss')),
        cal_acc=True,
    ),
)
