# EVA-02-L/16 with the progressive decoder for salient objects, as in the published code
# of IV-tuning.
_base_ = './sod_vit-b.py'

# EVA-02-L with patches of 16 px: see configs/ivtuning/README.md
checkpoint = 'work_dirs/eva02-large-p16-384.pth'
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.ViTEVA02',
            arch='large',
            img_size=384,
            patch_size=16,
            sub_ln=True,
            norm_cfg=dict(type='LN', eps=1e-6),
            drop_path_rate=0.2,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        blocks=(7, 11, 15, 23),
    ),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024]),
)
