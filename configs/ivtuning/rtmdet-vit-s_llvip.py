# IV-tuning of ViT-S/16 under RTMDet's neck and head: LLVIP, people at night.
_base_ = './rtmdet-vit-s_flir.py'

data_root = 'data/LLVIP/'
num_classes = 1
model = dict(bbox_head=dict(num_classes=num_classes))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type='mmir.LLVIPDataset',
            modality='both',
            data_root=data_root,
            split='train',
            pipeline=_base_.load,
        )
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmir.LLVIPDataset',
        modality='both',
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader
demo = dict(data='LLVIP', _delete_=True)
