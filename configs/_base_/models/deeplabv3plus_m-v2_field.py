# DeepLabV3+ on MobileNetV2 as in mmseg, small decoder, for red + near infrared.
_base_ = './deeplabv3plus_r50_paired.py'

checkpoint = 'mmcls://mobilenet_v2'  # ImageNet weights, or a file of yours
model = dict(
    data_preprocessor=dict(
        modalities=dict(
            _delete_=True,  # for yours: tools/analysis_tools/dataset_report.py
            red=dict(mean=70.0, std=22.0, channels=3),  # those of CWFID
            nir=dict(mean=79.0, std=26.0, channels=3),
        )
    ),
    backbone=dict(
        _delete_=True,
        type='mmseg.MobileNetV2',
        widen_factor=1.0,
        strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4),
        out_indices=(1, 2, 4, 6),
        norm_cfg=dict(type='BN'),
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    ),
    decode_head=dict(
        in_channels=320, channels=128, c1_in_channels=24, c1_channels=12, num_classes=3
    ),
)
