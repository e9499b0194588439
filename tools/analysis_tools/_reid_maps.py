"""Maps of a re-identification model: energy of its features, attention of MFT."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmir.evaluation.feature_frequency import energy_map
from mmir.utils.errors import UserError
from mmir.visualization.people import heat_overlay

ENERGY = 'feature energy'
SHARED, OWN, MADE = 'shared map', 'own map', 'generated map'
ATTENTION = 'attention of MFT'


@torch.no_grad()
def map_rows(
    model: nn.Module, batch: dict, pictures: Sequence[np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """Lay the maps of each image of a batch over its picture.

    A model with :class:`mmir.reid.TMPABackbone` shows the energy (norm over the
    channels) of its three maps, and where MFT attends to. Other models show the energy
    of the last map.

    Args:
        model: Model with a backbone that is told the modalities.
        batch: Batch of the test set.
        pictures: Images (H, W, 3), uint8, RGB, one per sample.

    Returns:
        Title -> a picture per image; the first are the images themselves.

    Raises:
        UserError: The model is not told the modality of an image.
    """
    from mmir.reid import TMPABackbone, VIReID

    if not isinstance(model, VIReID):
        raise UserError(
            f'attention needs a model of type mmir.VIReID, got {type(model)}'
        )
    data = model.data_preprocessor(batch, False)
    options = dict(stage='backbone', data_samples=data['data_samples'])
    if not isinstance(model.backbone, TMPABackbone):
        levels = model.extract_feat(data['inputs'], **options)
        maps = {ENERGY: energy_map(levels[-1])}
    else:
        maps = _tmpa_maps(model, data['inputs'], options)
    rows = {'image': [*pictures]}
    for title, heats in maps.items():
        pairs = zip(pictures, heats.cpu().numpy(), strict=True)
        rows[title] = [heat_overlay(picture, heat) for picture, heat in pairs]
    return rows


def _tmpa_maps(model: nn.Module, inputs: Tensor, options: dict) -> dict[str, Tensor]:
    """Maps (N, H, W) of TMPA."""
    caught: dict[str, Tensor] = {}
    handles = [
        transfer.block.register_forward_hook(
            lambda block, maps, _, name=name: caught.update(
                {name: block.received(*maps)}
            )
        )
        for name, transfer in model.backbone.transfer.copies.items()
        if transfer.block.attends
    ]
    try:
        shared, rgb, ir = model.extract_feat(inputs, **options)
    finally:
        for handle in handles:
            handle.remove()
    given = [sample.modality for sample in options['data_samples']]
    is_rgb = torch.tensor([name == 'rgb' for name in given], device=inputs.device)
    choose = is_rgb[:, None, None, None]
    own, made = torch.where(choose, rgb, ir), torch.where(choose, ir, rgb)
    found = {SHARED: shared, OWN: own, MADE: made}
    maps = {title: energy_map(x) for title, x in found.items()}
    if caught:  # by modality, in the order of the batch
        attended = shared.new_zeros(shared[:, 0].shape)
        for name, heat in caught.items():
            attended[is_rgb == (name == 'rgb')] = heat
        maps[ATTENTION] = attended
    return maps
