"""`GatedSpectralUnit`: gated sum of the features of several modalities.

[1] A. Sikdar, J. Teotia and S. Sundaram, "Contrastive learning-based spectral
knowledge distillation for multi-modality and missing modality scenarios in semantic
segmentation", arXiv 2312.02240, 2023.
[2] J. Arevalo, T. Solorio, M. Montes-y-Gómez and F. A. González, "Gated multimodal
units for information fusion", ICLR workshop 2017.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS
from torch import Tensor, nn

Projection = Literal['conv1x1', 'dw3x3', 'none']
Gate = Literal['self', 'concat', 'softmax']
Split = Literal['avgpool', 'fft']


@MODELS.register_module()
class GatedSpectralUnit(BaseModule):
    r"""Gated spectral unit [1, figure d].

    One branch per modality and one for their sum s, each gated by itself:

    .. math:: h = \sum_{k \in A \cup \{s\}} \tanh(W_k F_k) \odot \sigma(V_k F_k),
        \quad F_s = \sum_{m \in A} F_m

    with A the modalities that are present. The absolute value of h is at most the
    number of branches. The paper draws no linear maps; 1x1 convolutions without bias
    are ours. "Spectral" means the bands of the cameras: no Fourier transform is
    involved, unless `split='fft'`.

    Args:
        modalities: Number M of modalities. Branches: one each, and the sum's.
        channels: Number of channels C of all maps.
        projection: Linear maps W and V: 'conv1x1' (2 C^2 parameters per branch),
            'dw3x3' (depthwise, 18 C), 'none' (the identity).
        gate: What the gate of a branch reads.

            - 'self': its own map [1].
            - 'concat': the maps of all modalities, as in the gated multimodal unit [2];
              needs all of them.
            - 'softmax': its own map, and the gates of all branches sum to one.
        split: Default: none. With 'avgpool' or 'fft', the sum reads the low frequencies
            of the modalities, and the branches of the modalities the rest.

    Raises:
        ValueError: Unknown option, or fewer than two modalities.
    """

    def __init__(
        self,
        modalities: int,
        channels: int,
        projection: Projection = 'conv1x1',
        gate: Gate = 'self',
        split: Split | None = None,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ('projection', projection, get_args(Projection)),
            ('gate', gate, get_args(Gate)),
            ('split', split, (None, *get_args(Split))),
        ):
            if value not in known:
                raise ValueError(f'{name} must be one of {known}, got {value!r}')
        if modalities < 2:
            raise ValueError(f'at least two modalities are needed, got {modalities}')
        if gate == 'concat' and projection != 'conv1x1':
            raise ValueError("gate='concat' needs projection='conv1x1'")
        self.modalities, self.gate, self.split = modalities, gate, split
        wide = channels * modalities if gate == 'concat' else channels
        branches = range(modalities + 1)
        self.values = ModuleList([_linear(projection, channels) for _ in branches])
        self.gates = ModuleList([_linear(projection, channels, wide) for _ in branches])

    def forward(
        self, feats: Sequence[Tensor], present: Sequence[int] | None = None
    ) -> Tensor:
        """Fuse maps.

        Args:
            feats: Maps (N, C, H, W) of the same samples, of the modalities present.
            present: Their indices. Default: all modalities.

        Returns:
            Shape (N, C, H, W).

        Raises:
            ValueError: As many maps as indices are needed, and with `gate='concat'`
                all.
        """
        present = range(self.modalities) if present is None else present
        if len(feats) != len(present):
            raise ValueError(f'{len(feats)} maps for the modalities {[*present]}')
        if self.gate == 'concat' and len(feats) < self.modalities:
            raise ValueError(f"gate='concat' needs all {self.modalities} modalities")
        inputs, branches = self._inputs(feats), [*present, self.modalities]
        read = inputs
        if self.gate == 'concat':
            read = [torch.cat(list(feats), 1)] * len(inputs)
        gates = [self.gates[k](x) for k, x in zip(branches, read, strict=True)]
        if self.gate == 'softmax':
            gates = [*torch.stack(gates).softmax(0)]
        else:
            gates = [gate.sigmoid() for gate in gates]
        values = [self.values[k](x) for k, x in zip(branches, inputs, strict=True)]
        terms = [v.tanh() * g for v, g in zip(values, gates, strict=True)]
        return sum(terms[1:], start=terms[0])

    def _inputs(self, feats: Sequence[Tensor]) -> list[Tensor]:
        """Input of each branch, that of the sum last."""
        own = lows = list(feats)
        if self.split is not None:
            lows = [_low(x, self.split) for x in own]
            own = [x - low for x, low in zip(own, lows, strict=True)]
        return [*own, sum(lows[1:], start=lows[0])]


def _linear(kind: Projection, channels: int, wide: int | None = None) -> nn.Module:
    """Linear map from `wide` to `channels` channels, without bias."""
    if kind == 'none':
        return nn.Identity()
    if kind == 'dw3x3':
        options = dict(padding=1, groups=channels, bias=False)
        return nn.Conv2d(channels, channels, 3, **options)
    return nn.Conv2d(wide or channels, channels, 1, bias=False)


def _low(x: Tensor, split: Split) -> Tensor:
    """Low frequencies of a map: below a half of the Nyquist frequency."""
    if split == 'avgpool':
        small = F.avg_pool2d(x, 2, ceil_mode=True)
        return F.interpolate(small, x.shape[-2:], mode='bilinear', align_corners=False)
    spectrum = torch.fft.rfft2(x.float())  # bfloat16 has no Fourier transform
    h, w = x.shape[-2:]
    low_h = torch.fft.fftfreq(h, device=x.device).abs() < 0.25
    low_w = torch.fft.rfftfreq(w, device=x.device).abs() < 0.25
    kept = spectrum * (low_h[:, None] & low_w)
    return torch.fft.irfft2(kept, s=(h, w)).to(x.dtype)
