# Three horizontal and three vertical slices. The paper does not say how many.
_base_ = './toplight_mbv3l_sysu.py'

model = dict(
    neck=dict(fdr=dict(stripes=(3, 3))),
)
