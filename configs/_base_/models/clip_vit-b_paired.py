# Classification of pairs by CLIP's ViT-B/16, with a paired data preprocessor. The class
# token is not read: in the last block, adapters change only the patches.
num_classes = 3
# timm's vit_base_patch16_clip_quickgelu_224.openai, from
# tools/model_converters/timm_vit.py --family vit
checkpoint = 'work_dirs/clip-vit-base-p16.pth'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='mmir.PairedClsDataPreprocessor',
        modalities=dict(
            rgb=dict(
                mean=[122.771, 116.746, 104.094],
                std=[68.501, 66.632, 70.323],
                bgr_to_rgb=True,
            ),
            ir=dict(mean=108.375, std=51.0, channels=3),
        ),
    ),
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        pre_norm=True,
        norm_cfg=dict(type='LN', eps=1e-5),
        layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
        out_type='featmap',
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    ),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=num_classes,
        in_channels=768,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0),
        topk=(1,),
    ),
)
