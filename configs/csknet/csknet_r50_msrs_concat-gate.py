# Ablation: gates that read all modalities, as in the gated multimodal unit.
_base_ = './csknet_r50_msrs.py'

model = dict(
    decode_head=dict(fusion=dict(type='mmir.GatedSpectralUnit', gate='concat'))
)
