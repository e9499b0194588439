"""Distillation of the features of a frozen teacher.

[1] A. Sikdar, J. Teotia and S. Sundaram, "Contrastive learning-based spectral knowledge
distillation for multi-modality and missing modality scenarios in semantic
segmentation", arXiv 2312.02240, 2023.
[2] G. Hinton, O. Vinyals and J. Dean, "Distilling the knowledge in a neural network",
arXiv 1503.02531, 2015.
[3] C. Shu, Y. Liu, J. Gao, Z. Yan and C. Shen, "Channel-wise knowledge distillation for
dense prediction", ICCV 2021.
[4] S. Zagoruyko and N. Komodakis, "Paying more attention to attention", ICLR 2017.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, l1_loss, mse_loss

from mmir.registry import MODELS
from mmir.utils.errors import UserError

SHORT = 1e-6
"""Vectors that are not longer have no direction."""


@MODELS.register_module()
class SpectralDistillLoss(nn.Module):
    """Distance of the feature maps or logits of a student to those of a teacher.

    CSK-Net [1] distills a network trained on visible images into the visible branch of
    a network with several modalities. The paper does not state its distance. For maps a
    of the student and b of the teacher, with C channels, the choices are:

    - 'cos': ``||a/||a|| - b/||b||||^2`` along the channels, which is 2 - 2 cos of the
      angle between them; mean over pixels. It ignores the scale. A zero vector has the
      direction 0 and gets no gradient.
    - 'mse', 'l1': mean over all elements of ``(a - b)^2`` and ``|a - b|``.
    - 'kl': ``t^2 KL(softmax(b/t) || softmax(a/t))`` along the channels; mean over
      pixels [2]. This is the one for logits.
    - 'cwd': ``t^2 / C`` times the sum over channels of the same divergence along the
      pixels; mean over the batch [3].
    - 'at': squared difference of ``A/||A||``, where A is the mean over channels of the
      squared map and the norm is over the pixels of an image; mean over pixels [4].

    Args:
        kind (str): Distance, see above.
        weight (float): Factor of the loss.
        temperature (float, optional): t of 'kl' and 'cwd'. Default: 1 and 4.

    Raises:
        ValueError: `kind` is unknown, or `temperature` is not positive or given for a
            distance without one.
    """

    def __init__(
        self, kind: str = 'cos', weight: float = 1.0, temperature: float | None = None
    ) -> None:
        super().__init__()
        distances = dict(cos=_cosine, mse=mse_loss, l1=l1_loss, at=_attention)
        tempered = dict(kl=(_pixel_kl, 1.0), cwd=(_channel_kl, 4.0))
        if kind not in distances and kind not in tempered:
            known = [*distances, *tempered]
            raise ValueError(f'kind must be one of {known}, got {kind!r}')
        if temperature is not None and (kind in distances or temperature <= 0):
            raise ValueError(
                f'temperature {temperature} with kind {kind!r}: it must be positive, '
                f'and only {[*tempered]} have one'
            )
        self.kind, self.weight, self.temperature = kind, weight, temperature
        if kind in distances:
            self._distance = distances[kind]
        else:
            self._distance, default = tempered[kind]
            self.temperature = temperature or default

    def forward(
        self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]
    ) -> Tensor:
        """Compute the loss, in at least float32.

        Args:
            student (Tensor | Sequence[Tensor]): Map (N, C, H, W), or one per stage.
            teacher (Tensor | Sequence[Tensor]): The same of the teacher. It gets no
                gradient.

        Returns:
            Tensor: Scalar, the mean over the stages. 0 if the maps are equal.

        Raises:
            UserError: The maps differ in number or shape.
        """
        if isinstance(student, Tensor) != isinstance(teacher, Tensor):
            raise UserError(
                'one of student and teacher is a map and the other a sequence of maps: '
                'give both the same way'
            )
        if isinstance(student, Tensor):
            student, teacher = [student], [teacher]
        shapes = [[tuple(x.shape) for x in maps] for maps in (student, teacher)]
        if shapes[0] != shapes[1] or not shapes[0]:
            raise UserError(
                f'the maps of the student have the shapes {shapes[0]}, those of the '
                f'teacher {shapes[1]}: give the teacher the architecture of the '
                'student and images of the same size'
            )
        pairs = zip(student, teacher, strict=True)
        losses = [self._compare(a, b.detach()) for a, b in pairs]
        return self.weight * torch.stack(losses).mean()

    def _compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the distance of two maps (N, C, H, W)."""
        # squares of features overflow in float16; autocast lowers nothing here
        dtype = torch.promote_types(student.dtype, torch.float32)
        maps = student.to(dtype), teacher.to(dtype)
        if self.temperature is None:
            return self._distance(*maps)
        return self._distance(*maps, self.temperature)


def _direction(x: Tensor) -> Tensor:
    """Divide vectors along axis 1 by their length, short ones become 0.

    `torch.nn.functional.normalize` divides a zero vector by 1e-12 instead, which makes
    its gradient 1e12 times too large.
    """
    square = x.square().sum(1, keepdim=True)
    long = square > SHORT**2
    # the second `where` keeps the infinite derivative at 0 out of the gradient
    return x * torch.where(long, torch.where(long, square, 1).rsqrt(), 0)


def _cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over pixels of the squared distance of directions."""
    return (_direction(student) - _direction(teacher)).square().sum(1).mean()


def _attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over pixels of the squared difference of normalized attention maps."""
    a, b = (_direction(x.square().mean(1).flatten(1)) for x in (student, teacher))
    return (a - b).square().mean()


def _pixel_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over pixels of the divergence along the channels."""
    return _divergence(student, teacher, temperature, 1).mean()


def _channel_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over images and channels of the divergence along the pixels."""
    a, b = student.flatten(2), teacher.flatten(2)
    return _divergence(a, b, temperature, 2).mean()


def _divergence(student: Tensor, teacher: Tensor, t: float, axis: int) -> Tensor:
    """t^2 KL(softmax(teacher/t) || softmax(student/t)) along an axis."""
    a, b = (student / t).log_softmax(axis), (teacher / t).log_softmax(axis)
    return t**2 * kl_div(a, b, reduction='none', log_target=True).sum(axis)
