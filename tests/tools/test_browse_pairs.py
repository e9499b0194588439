"""Rendering of the samples of a config's dataset."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.dataset import ConcatDataset, RepeatDataset
from paired_configs import (
    SINGLE,
    SIZE,
    tool,
    write_detection,
    write_segmentation,
)

from mmir.cli import cli
from mmir.utils.errors import UserError
from mmir.visualization.pipeline_stages import LoadedSamples, Steps, build_dataset

STRIP, GAP = 20, 4
WIDTH, HEIGHT = SIZE


@pytest.fixture(scope='module')
def browse():
    with tool('browse_pairs') as module:
        yield module


def split(path: Path, count: int, width: int, height: int) -> list[np.ndarray]:
    """Panels of a picture of one row, RGB, without titles."""
    image = cv2.imread(str(path))[..., ::-1]
    assert image.shape == (height + STRIP, count * (width + GAP) - GAP, 3)
    return [image[STRIP:, k * (width + GAP) :][:, :width] for k in range(count)]


def near(panel: np.ndarray, image: np.ndarray, reach: int = 1) -> float:
    """Share of the pixels that are as in the image: the rest is drawn over.

    The canvas of the hosts' visualizers moves pixels by up to one place.
    """
    moved = [
        np.abs(panel.astype(int) - np.roll(image, (y, x), (0, 1))).max(2) <= 1
        for y in range(-reach, reach + 1)
        for x in range(-reach, reach + 1)
    ]
    return float(np.any(moved, 0).mean())


def test_loaded_pairs_are_the_files_with_their_boxes(browse, tmp_path) -> None:
    config, root = write_detection(tmp_path)
    out = tmp_path / 'out'
    arguments = [str(config), '--stage', 'original', '--number', '9', '--out', str(out)]
    written = browse.main(arguments)
    names = [p.name for p in written]
    assert names == [f'0000{k}_FLIR_0000{k + 1}.png' for k in range(3)]
    rgb, ir = split(written[0], 2, WIDTH, HEIGHT)
    files = ('RGB/FLIR_00001.jpg', 'thermal_8_bit/FLIR_00001.jpeg')
    for panel, file in zip((rgb, ir), files, strict=True):
        image = cv2.imread(str(root / 'train' / file))[..., ::-1]
        assert 0.5 < near(panel, image) < 1  # the boxes are the rest
    with pytest.raises(UserError, match=r'already holds pictures.*--force'):
        browse.main(arguments)
    assert browse.main([*arguments, '--force']) == written


def test_a_sample_looks_alike_for_a_seed_and_shows_augmentation(
    browse, tmp_path
) -> None:
    config, _ = write_detection(tmp_path)
    pictures = []
    for name, number in (('a', '3'), ('b', '1')):
        written = browse.main(
            [str(config), '--number', number, '--out', str(tmp_path / name)]
        )
        pictures.append({p.name: cv2.imread(str(p)) for p in written})
    (name,) = pictures[1]
    assert np.array_equal(pictures[0][name], pictures[1][name])
    assert pictures[0][name].shape[1] == 2 * 2 * WIDTH + GAP  # the canvas of Mosaic


def test_every_step_is_a_row(browse, tmp_path) -> None:
    config, _ = write_detection(tmp_path)
    out = ['--stage', 'pipeline', '--number', '1', '--out', str(tmp_path / 'out')]
    image = cv2.imread(str(browse.main([str(config), *out])[0]))
    loaded, mixed = HEIGHT + 2 * STRIP, 2 * HEIGHT + 2 * STRIP
    assert image.shape[0] == loaded + GAP + mixed + GAP + mixed
    before, after = (
        image[top : top + 2 * HEIGHT, : 2 * WIDTH]
        for top in (loaded + GAP + 2 * STRIP, loaded + 2 * GAP + mixed + 2 * STRIP)
    )
    assert near(after, before[:, ::-1], reach=2) > 0.6  # flipped, the words apart
    dataset = build_dataset(cli.load_config(str(config)), 'train')
    names = [name for name, _ in Steps(dataset)[1]]
    assert names == [
        'LoadPairedImages', 'LoadAnnotations', 'PairedTransform(Mosaic)',
        'PairedTransform(RandomFlip)', 'PackPairedInputs(PackDetInputs)',
    ] or names[-1] == 'PackPairedInputs'  # fmt: skip


def test_mixtures_colours_and_absence(browse, tmp_path) -> None:
    config, root = write_detection(tmp_path)
    (root / 'val/RGB/FLIR_00005.jpg').unlink()
    modes = ['--mode', 'side-by-side', 'overlay', 'checkerboard', '--colormap', 'jet']
    more = ['--split', 'val', '--tile', '8', '--out', str(tmp_path / 'out')]
    both, lone = browse.main([str(config), *modes, *more])
    rgb, ir, mixed, board = split(both, 4, WIDTH, HEIGHT)
    mean = (rgb.astype(int) + ir) / 2
    assert (np.abs(mixed - mean).max(2) <= 1).mean() > 0.5
    assert (board[:8, :8] == rgb[:8, :8]).all(2).mean() > 0.5
    assert (board[:8, 8:16] == ir[:8, 8:16]).all(2).mean() > 0.5
    assert (ir.max(2).astype(int) - ir.min(2) > 60).mean() > 0.9  # jet has no gray
    empty, there = split(lone, 2, WIDTH, HEIGHT)
    assert set(np.unique(empty[:20])) == {36, 48}
    assert np.unique(there).size > 50


def test_one_camera_after_resizing(browse, tmp_path) -> None:
    config, _ = write_detection(tmp_path, 'ir', SINGLE)
    out = ['--split', 'val', '--number', '1', '--out', str(tmp_path / 'out')]
    (panel,) = split(browse.main([str(config), *out])[0], 1, 80, 64)
    grey = (panel[..., 0] == panel[..., 1]) & (panel[..., 1] == panel[..., 2])
    assert grey.mean() > 0.3


def test_masks_and_16_bits(browse, tmp_path) -> None:
    config = write_segmentation(tmp_path)
    out = ['--number', '1', '--out', str(tmp_path / 'out'), '--colormap', 'black-hot']
    rgb, ir = split(browse.main([str(config), *out])[0], 2, 80, 60)
    leaf, ground = rgb[:, :18].mean((0, 1)), rgb[:, 60:].mean((0, 1))
    assert leaf[1] - ground[1] > 50  # green
    assert abs(leaf[0] - ground[0]) < 25
    assert ir[:, 22:].std() > 20  # a range of 500 counts, stretched


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['none.py'], 'no config none.py'),
        (['CONFIG', '--split', 'test'], "no test_dataloader; it has splits .*'val'"),
        (['CONFIG', '--alpha', '2'], '--alpha must be in 0..1'),
        (['CONFIG', '--cfg-options', 'val_dataloader.dataset.pipeline=[]'], None),
    ],
)
def test_what_the_user_can_put_right_is_said(
    browse, tmp_path, arguments, message
) -> None:
    config, _ = write_detection(tmp_path)
    arguments = [str(config) if a == 'CONFIG' else a for a in arguments]
    if message is None:
        arguments += ['--split', 'val']
        message = 'must end with a packing transform, such as mmir.PackPairedInputs'
    with pytest.raises(UserError, match=message):
        browse.main([*arguments, '--out', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


def test_unreadable_file_is_named(browse, tmp_path) -> None:
    config, root = write_detection(tmp_path)
    (root / 'val/RGB/FLIR_00004.jpg').write_bytes(b'no image')
    with pytest.raises(UserError, match=r'sample 0: .*FLIR_00004\.jpg'):
        browse.main([str(config), '--split', 'val', '--out', str(tmp_path / 'out')])


def test_samples_of_wrapped_datasets_are_found_once(tmp_path) -> None:
    config, _ = write_detection(tmp_path)
    cfg = cli.load_config(str(config))
    val, other = (build_dataset(cfg, 'val') for _ in range(2))
    loaded = LoadedSamples(ConcatDataset([val, other]))
    assert len(loaded) == 4
    for index, (dataset, k) in enumerate([(val, 0), (val, 1), (other, 0), (other, 1)]):
        assert loaded.info(index)['img_path'] == dataset.get_data_info(k)['img_path']
    assert loaded.transforms == ['LoadPairedImages', 'LoadAnnotations']
    assert set(loaded[3]['imgs']) == {'rgb', 'ir'}
    with pytest.raises(UserError, match='list is not an mmengine dataset'):
        LoadedSamples([1, 2])
    assert len(LoadedSamples(RepeatDataset(val, times=3))) == 2
