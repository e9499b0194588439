# Ablation: the L1 penalty of the channel exchanging network, with its factor.
_base_ = './csknet_r50_msrs.py'

model = dict(shared=dict(channel_exchange=dict(sparsity=2e-4)))
