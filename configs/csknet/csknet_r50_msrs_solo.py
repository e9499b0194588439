# Ablation: three batches of ten have a single modality.
_base_ = './csknet_r50_msrs.py'

model = dict(p_solo=0.3)
