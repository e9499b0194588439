# Task-oriented pretraining (TOP) of TOPLight (CVPR 2023): MobileNetV3-L, two paths of
# blocks 1 to 4. From the paper: the blocks, both views, which losses. The forms and
# weights of the losses are ours.

# ========================== values one often changes ==========================
num_classes = 100  # of mini-ImageNet; the paper says "ImageNet-mini"
# ImageNet weights, or a file of yours
checkpoint = 'torchvision://mobilenet_v3_large.imagenet1k_v2'

# ========================= values that rarely change ==========================
model = dict(
    type='mmir.TOPClassifier',
    data_preprocessor=dict(
        type='mmpretrain.SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmir.DualPathBackbone',
        backbone=dict(
            type='mmir.LightMobileNetV3',
            arch='large',
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        network='mobilenetv3_large',
    ),
    head=dict(
        type='mmir.TOPHead',
        num_classes=num_classes,
        in_channels=1280,
        identity=dict(type='mmir.IdentityConsistencyLoss', consistency=1.0),
        domain=dict(type='mmir.FakeDomainLoss', channels=(40, 1280), loss_weight=0.1),
    ),
)
