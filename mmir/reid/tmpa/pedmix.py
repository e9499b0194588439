"""`PedMix`: patches of one modality in the image of the other, region by region.

[1] "Transferring modality-aware pedestrian attentive learning for visible-infrared
person re-identification" (TMPA), arXiv 2312.07021, 2023.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mmir.utils.errors import UserError

from .regions import REGIONS, pedestrian_regions

MASKS, UNITS = ('independent', 'shared'), ('patch', 'region')


class PedMix:
    """Exchange patches between the RGB and the infrared image of a person [1].

    The image is cut into a grid of patches, and each belongs to one of three regions,
    see :func:`pedestrian_regions`. With masks M, which are 1 where a patch comes
    from the other modality::

        mixed_rgb = (1 - M_rgb) rgb + M_rgb ir
        mixed_ir  = (1 - M_ir)  ir  + M_ir  rgb

    In a region r of N_r patches, `round(ratio_r * N_r)` patches are drawn without
    replacement. Both images show the same person, so labels stay.

    Grid and ratios of the paper were not at hand; the defaults are ours. Images of
    288x144 get patches of 16x16 pixels.

    Args:
        ratios (Sequence[float]): Masking ratio of center, sub-center and outer region,
            from 0 to 1.
        grid (Sequence[int]): Rows and columns of patches.
        masks (str): 'independent' draws one mask per modality, 'shared' the same one
            for both, which is an exact exchange.
        unit (str): 'patch' draws patches. 'region' takes a whole region with the
            probability of its ratio.

    Raises:
        UserError: An argument has no such value, or the grid is too small.
    """

    def __init__(
        self,
        ratios: Sequence[float] = (0.5, 0.3, 0.1),
        grid: Sequence[int] = (18, 9),
        masks: str = 'independent',
        unit: str = 'patch',
    ) -> None:
        if len(ratios) != len(REGIONS) or not all(0 <= r <= 1 for r in ratios):
            raise UserError(
                f'ratios={ratios}: give three numbers from 0 to 1, for {REGIONS}'
            )
        if masks not in MASKS or unit not in UNITS:
            raise UserError(
                f'masks={masks!r} must be one of {MASKS}, unit={unit!r} of {UNITS}'
            )
        self.regions = pedestrian_regions(*grid)
        self.ratios, self.masks, self.unit = tuple(ratios), masks, unit

    def draw(self, pairs: int, generator: torch.Generator) -> Tensor:
        """Draw the masks of pairs of images.

        Args:
            pairs (int): Number of pairs.
            generator (torch.Generator): Source of random numbers, on the CPU.

        Returns:
            Tensor: Masks (2, pairs, rows, columns), bool, of RGB and of infrared; True
            where a patch is taken from the other modality.
        """
        regions = self.regions
        drawn = 1 if self.masks == 'shared' else 2
        found = torch.zeros((drawn, pairs, regions.numel()), dtype=torch.bool)
        for index, ratio in enumerate(self.ratios):
            inside = (regions.flatten() == index).nonzero()[:, 0]
            if self.unit == 'region':
                taken = torch.rand((drawn, pairs, 1), generator=generator) < ratio
                found[..., inside] = taken
            else:
                keys = torch.rand((drawn, pairs, len(inside)), generator=generator)
                chosen = keys.argsort(-1)[..., : round(ratio * len(inside))]
                found.scatter_(-1, inside[chosen], True)
        return found.expand(2, -1, -1).unflatten(-1, regions.shape)

    def mix(self, rgb: Tensor, ir: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange patches.

        Args:
            rgb (Tensor): RGB images (N, C, H, W).
            ir (Tensor): Infrared images (N, C, H, W), of the same people.
            masks (Tensor): Masks (2, N, rows, columns), bool.

        Returns:
            tuple[Tensor, Tensor]: Mixed RGB and mixed infrared images.

        Raises:
            UserError: The images have fewer pixels than the grid has patches.
        """
        size, grid = rgb.shape[-2:], masks.shape[-2:]
        if any(pixels < patches for pixels, patches in zip(size, grid, strict=True)):
            raise UserError(
                f'images of {size[0]}x{size[1]} cannot be cut into {grid[0]}x{grid[1]} '
                'patches; use larger images or a smaller `grid`'
            )
        large = interpolate(masks.to(rgb.device, torch.uint8), size, mode='nearest')
        one, other = large.bool().unsqueeze(2)
        return torch.where(one, ir, rgb), torch.where(other, rgb, ir)
