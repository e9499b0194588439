# CSK-Net around DeepLabV3+ on ResNet-50. From the paper are its parts and where they
# sit, two training stages and the absence of a sparsity penalty. The numbers are ours,
# but for those of the published code it builds on (threshold, period, contrast).
_base_ = './deeplabv3plus_r50_paired.py'

decoder = {{_base_.model.decode_head}}
model = dict(
    type='mmir.CSKNet',
    decode_head=dict(_delete_=True, type='mmir.CSKHead', decoder=decoder),
    shared=dict(
        channel_exchange=dict(mode='threshold', threshold=0.02),
        spatial_exchange=dict(period=2, stages=(2, 3)),  # the later stages: paper
    ),
    teacher=dict(modality='rgb', checkpoint=None),
    distill=dict(kind='cos', encoder=1.0, decoder=1.0),  # into both: paper
    contrast=dict(
        channels=(256, 512, 1024, 2048),
        weight=0.1,
        warmup=5000,
        scope='intra',
        loss=dict(temperature=0.1, base_temperature=0.07),
    ),
)
custom_hooks = [dict(type='mmir.ExchangeRatioHook')]
