# Baseline: DeepLabV3+ on the infrared images of MSRS. It costs what CSK-Net costs on
# infrared alone.
_base_ = './deeplabv3plus_r50_msrs_rgb.py'

model = dict(modality='ir')
