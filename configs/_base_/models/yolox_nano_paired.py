# YOLOX-nano with a paired data preprocessor: BGR, 0..255, as in its COCO checkpoint.
_base_ = './yolox_nano.py'

raw = dict(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)
model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type='mmir.PairedDetDataPreprocessor',
        modalities=dict(rgb=raw, ir=raw),
        absent_value=114.0,  # a missing image looks like the padding
        pad_size_divisor=32,
        pad_value=114.0,
    )
)
