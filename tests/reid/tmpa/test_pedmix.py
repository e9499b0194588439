"""`PedMix` and its preprocessor: masks, exact exchange, labels, seeds."""

from pathlib import Path

import pytest
import torch
from reid_models import people
from torch import Tensor
from two_ranks import in_two_ranks

from mmir.reid import PedMix, PedMixDataPreprocessor
from mmir.reid.tmpa.regions import pedestrian_regions
from mmir.utils.errors import UserError

SIZE = (288, 144)
MODALITIES, LABELS = ['rgb'] * 4 + ['ir'] * 4, [0, 0, 1, 1] * 2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(size: tuple[int, int] = (96, 48)) -> dict:
    images = torch.randint(0, 256, (8, 3, *size), generator=seeded(3))
    return dict(inputs=images.byte(), data_samples=people(MODALITIES, LABELS))


def test_regions_tile_the_image() -> None:
    regions = pedestrian_regions(18, 9)
    assert torch.bincount(regions.flatten()).tolist() == [42, 70, 50]
    center = (regions == 0).nonzero()
    assert center.amin(0).tolist() == [2, 3]
    assert center.amax(0).tolist() == [15, 5]
    inner = (regions < 2).nonzero()
    assert inner.amin(0).tolist() == [1, 1]
    assert inner.amax(0).tolist() == [16, 7]
    assert torch.equal(regions, regions.flip(1))
    with pytest.raises(UserError, match='too few'):
        pedestrian_regions(2, 2)


@pytest.mark.parametrize('ratios', [(0.5, 0.3, 0.1), (1, 0, 0.5), (0, 0.77, 1)])
def test_each_region_gives_its_share_of_patches(ratios: tuple) -> None:
    masks = PedMix(ratios).draw(5, seeded())
    regions = pedestrian_regions(18, 9)
    for index, (ratio, size) in enumerate(zip(ratios, (42, 70, 50), strict=True)):
        counts = masks[..., regions == index].sum(-1)
        assert (counts == round(ratio * size)).all()
    if 0 < ratios[1] < 1:
        assert not torch.equal(masks[0], masks[1])
        assert not torch.equal(masks[0, 0], masks[0, 1])


def test_patches_are_drawn_uniformly() -> None:
    masks = PedMix((0.5, 0.5, 0.5)).draw(2000, seeded())
    rate = masks.double().mean((0, 1))
    assert (rate - 0.5).abs().max() < 0.04  # five standard deviations


def test_whole_regions() -> None:
    masks = PedMix((0.5, 0.3, 0.1), unit='region').draw(3000, seeded())
    regions = pedestrian_regions(18, 9)
    for index, ratio in enumerate((0.5, 0.3, 0.1)):
        inside = masks[..., regions == index]
        assert torch.equal(inside.all(-1), inside.any(-1))
        assert inside.double().mean().item() == pytest.approx(ratio, abs=0.035)


def test_every_patch_has_one_source() -> None:
    mix, (rgb, ir) = PedMix(), torch.rand(2, 3, 3, *SIZE, generator=seeded(1))
    masks = mix.draw(3, seeded())
    mixed = mix.mix(rgb, ir, masks)
    for own, other, out, mask in zip((rgb, ir), (ir, rgb), mixed, masks, strict=True):
        tiles = [x.unfold(2, 16, 16).unfold(3, 16, 16) for x in (own, other, out)]
        taken = (tiles[2] == tiles[1]).all(-1).all(-1).all(1)
        kept = (tiles[2] == tiles[0]).all(-1).all(-1).all(1)
        assert torch.equal(taken, mask)
        assert torch.equal(kept, ~mask)


def test_identity_swap_and_sum() -> None:
    rgb, ir = torch.rand(2, 3, 3, *SIZE, generator=seeded(1))
    none, full = PedMix((0, 0, 0)), PedMix((1, 1, 1), masks='shared')
    same = none.mix(rgb, ir, none.draw(3, seeded()))
    assert torch.equal(torch.stack(same), torch.stack([rgb, ir]))
    swapped = full.mix(rgb, ir, full.draw(3, seeded()))
    assert torch.equal(torch.stack(swapped), torch.stack([ir, rgb]))
    shared = PedMix(masks='shared')
    one, other = shared.mix(rgb, ir, shared.draw(3, seeded()))
    assert torch.equal(one + other, rgb + ir)


def test_mixing_commutes_with_a_flip() -> None:
    mix, (rgb, ir) = PedMix(), torch.rand(2, 3, 3, *SIZE, generator=seeded(1))
    masks = mix.draw(3, seeded())
    flipped = mix.mix(rgb.flip(-1), ir.flip(-1), masks.flip(-1))
    expected = [x.flip(-1) for x in mix.mix(rgb, ir, masks)]
    assert torch.equal(torch.stack(flipped), torch.stack(expected))


def test_replace_mixes_some_pairs_and_keeps_labels() -> None:
    data = PedMixDataPreprocessor(seed=1)(batch(), training=True)
    plain = PedMixDataPreprocessor()(batch(), training=False)
    assert torch.equal(plain['inputs'], batch()['inputs'].float())
    changed = (data['inputs'] != plain['inputs']).flatten(1).any(1)
    assert torch.equal(changed[:4], changed[4:])
    assert 0 < changed.sum() < 8
    assert [int(sample.gt_label) for sample in data['data_samples']] == LABELS


def test_append_doubles_the_batch() -> None:
    cfg = dict(mode='append', prob=1, pedmix=dict(ratios=(1, 1, 1)))
    data = PedMixDataPreprocessor(**cfg)(batch(), training=True)
    images, samples = data['inputs'], data['data_samples']
    assert torch.equal(images[:8], batch()['inputs'].float())
    assert torch.equal(images[8:12], images[4:8])
    assert torch.equal(images[12:], images[:4])
    assert [sample.modality for sample in samples] == MODALITIES * 2
    assert [int(sample.gt_label) for sample in samples] == LABELS * 2


def test_masks_go_by_seed_and_step_also_after_resuming() -> None:
    def steps(module: PedMixDataPreprocessor, count: int) -> list[Tensor]:
        return [module(batch(), training=True)['inputs'] for _ in range(count)]

    module, again = (PedMixDataPreprocessor(prob=1, seed=5) for _ in range(2))
    first = steps(module, 3)
    torch.rand(7)  # other random numbers do not matter
    assert torch.equal(torch.stack(steps(again, 3)), torch.stack(first))
    assert not torch.equal(first[0], first[1])
    resumed = PedMixDataPreprocessor(prob=1, seed=5)
    resumed.load_state_dict(again.state_dict())
    assert torch.equal(steps(resumed, 1)[0], steps(module, 1)[0])
    other = steps(PedMixDataPreprocessor(prob=1, seed=6), 1)[0]
    assert not torch.equal(other, first[0])


def half(rank: int) -> Tensor:
    """Images of the pairs of a process."""
    rows = [2 * rank, 2 * rank + 1, 4 + 2 * rank, 5 + 2 * rank]
    data, module = batch(), PedMixDataPreprocessor(prob=0.6)
    samples = [data['data_samples'][k] for k in rows]
    part = dict(inputs=data['inputs'][rows], data_samples=samples)
    return module(part, training=True)['inputs']


@pytest.mark.slow
def test_two_processes_mix_as_one(tmp_path: Path) -> None:
    first, second = in_two_ranks(half, tmp_path)
    whole = PedMixDataPreprocessor(prob=0.6)(batch(), training=True)['inputs']
    parts = [first[:2], second[:2], first[2:], second[2:]]
    assert torch.equal(torch.cat(parts), whole)


def test_bad_batches_are_refused() -> None:
    module, data = PedMixDataPreprocessor(), batch()
    mixed_up = dict(data_samples=people(MODALITIES, [0, 0, 1, 1, 1, 0, 1, 1]))
    uneven = dict(data_samples=people(['rgb'] * 5 + ['ir'] * 3, LABELS))
    with pytest.raises(UserError, match='two people'):
        module(data | mixed_up, training=True)
    with pytest.raises(UserError, match='got 5 and 3'):
        module(data | uneven, training=True)
    with pytest.raises(UserError, match='cannot be cut'):
        module(batch((17, 48)), training=True)


@pytest.mark.parametrize('size', [(288, 144), (85, 32), (18, 9)])
def test_patches_tile_images_of_any_size(size: tuple[int, int]) -> None:
    mix = PedMix()
    masks = mix.draw(1, seeded())
    zero = torch.zeros(1, 1, *size)
    mixed, _ = mix.mix(zero, zero + 1, masks)
    rows = [k * 18 // size[0] for k in range(size[0])]
    cols = [k * 9 // size[1] for k in range(size[1])]
    assert torch.equal(mixed[0, 0] == 1, masks[0, 0][rows][:, cols])


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(mode='add'), "'replace', 'append'"),
        (dict(mode='append'), "1 for mode='append'"),
        (dict(prob=2), 'from 0 to 1'),
        (dict(pedmix=dict(ratios=(1, 0))), 'three numbers'),
        (dict(pedmix=dict(masks='both')), "'independent', 'shared'"),
        (dict(pedmix=dict(unit='pixel')), "'patch', 'region'"),
        (dict(pedmix=dict(grid=(2, 2))), 'too few'),
    ],
)
def test_bad_arguments_are_refused(cfg: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PedMixDataPreprocessor(**cfg)
