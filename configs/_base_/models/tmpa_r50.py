# TMPA (arXiv 2312.07021): PedMix, shared and specific branches of a ResNet-50, and MFT
# for the modality that an image lacks. From the paper: ResNet-50, the parts, and which
# losses there are. The sizes, ratios and weights are ours.

# ========================== values one often changes ==========================
num_classes = 395  # training identities of SYSU-MM01
checkpoint = 'torchvision://resnet50'  # ImageNet weights, or a file of yours
ratios = (0.5, 0.3, 0.1)  # masking ratio of center, sub-center and outer region

# ========================= values that rarely change ==========================
model = dict(
    type='mmir.VIReID',
    data_preprocessor=dict(
        type='mmir.PedMixDataPreprocessor',
        pedmix=dict(
            ratios=ratios,
            grid=(18, 9),  # patches of 16x16 in images of 288x144
            masks='independent',
            unit='patch',
        ),
        mode='replace',
        prob=0.5,
        seed=0,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmir.TMPABackbone',
        variant='light',
        backbone=dict(
            type='mmpretrain.ResNet',
            depth=50,
            strides=(1, 2, 2, 1),  # maps of 18x9 for images of 288x144
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        transfer=dict(
            type='mmir.MFT',
            in_channels=2048,
            channels=512,
            heads=4,
            paths=['attention', 'convolution'],
            reach='global',
        ),
    ),
    neck=dict(type='mmir.CompleteNeck', fusion='concat'),
    head=dict(
        type='mmir.TMPAHead',
        num_classes=num_classes,
        in_channels=3 * 2048,
        branch_channels=2048,
        loss=dict(type='mmpretrain.CrossEntropyLoss'),
        metric=dict(wrt=dict(type='mmir.WRTLoss')),
        mss=dict(type='mmir.MSSLoss', margin=1.0, loss_weight=0.5),
        msi=dict(type='mmir.MSILoss', loss_weight=0.5),
        cal_acc=True,
    ),
)
