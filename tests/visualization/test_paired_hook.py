"""Images drawn by the hook, in mmengine runs with the hosts' visualizers."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from mmengine.visualization import Visualizer

import mmir  # noqa: F401
from mmir.structures import drop_modalities
from mmir.transforms import LoadPairedImages, PackPairedInputs
from mmir.visualization.labeled import draw_labels, has_labels, packed_images
from mmir.visualization.paired_hook import PairedVisualizationHook

SIZE = (120, 160)  # height, width
BOX = [[40.0, 30.0, 100.0, 90.0]]
STRIP, GAP = 20, 4


class Pairs(BaseDataset):
    """Pairs of constant images: RGB (40) and one-channel thermal (90)."""

    METAINFO = dict(classes=('person', 'car'), palette=[(255, 0, 0), (0, 255, 0)])

    def load_data_list(self) -> list[dict]:
        return [
            dict(
                img_path=f'{self.data_root}/{k}.png',
                img_paths={n: f'{self.data_root}/{n}/{k}.png' for n in ('rgb', 'ir')},
                gt_bboxes=np.array(BOX, np.float32),
                gt_bboxes_labels=np.array([0]),
                gt_ignore_flags=np.array([False]),
            )
            for k in range(4)
        ]


class Finds(BaseModel):
    """Finds the same two boxes everywhere, one strong and one weak."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            return {'loss': self.weight**2}
        for sample in data_samples:
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([[5.0, 5, 30, 30], *BOX]),
                labels=torch.tensor([1, 1]),
                scores=torch.tensor([0.1, 0.9]),
            )
        return data_samples


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, value in (('rgb', 40), ('ir', 90)):
        (tmp_path / name).mkdir()
        for k in range(4):
            shape = (*SIZE, 3) if name == 'rgb' else SIZE
            image = np.full(shape, value, np.uint8)
            if name == 'rgb':
                image[..., 2] += 10  # BGR: a little red
            cv2.imwrite(str(tmp_path / name / f'{k}.png'), image)
    return tmp_path


def loader(root: Path, pack: bool = True) -> dict:
    init_default_scope('mmdet')
    pipeline = [LoadPairedImages(dict(rgb={}, ir=dict(channels=1)))]
    if pack:
        pipeline.append(PackPairedInputs())
    dataset = Pairs(data_root=str(root), pipeline=pipeline)
    return dict(
        dataset=dataset,
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=2,
        num_workers=0,
        collate_fn=dict(type='pseudo_collate'),
    )


def runner(root: Path, hook: PairedVisualizationHook, **options) -> Runner:
    pytest.importorskip('mmdet')
    return Runner(
        Finds(),
        work_dir=str(root / 'run'),
        custom_hooks=[hook],
        default_scope='mmdet',
        experiment_name=root.name,
        visualizer=dict(
            type='DetLocalVisualizer',
            name=f'visualizer_{root.name}',
            vis_backends=[dict(type='LocalVisBackend')],
        ),
        log_level='ERROR',
        **options,
    )


def after_test(root: Path, hook: PairedVisualizationHook) -> Runner:
    made = runner(
        root,
        hook,
        test_dataloader=loader(root),
        test_cfg=dict(),
        test_evaluator=[],
    )
    made.test()
    return made


def panels(path: Path) -> np.ndarray:
    """Panels of a picture: (rows, columns, H, W, 3) in RGB, without titles."""
    image = cv2.imread(str(path))[..., ::-1]
    rows = (image.shape[0] + GAP) // (SIZE[0] + STRIP + GAP)
    return np.stack(
        [
            np.stack(
                [
                    image[y + STRIP : y + STRIP + SIZE[0], x : x + SIZE[1]]
                    for x in (0, SIZE[1] + GAP)
                ]
            )
            for y in (k * (SIZE[0] + STRIP + GAP) for k in range(rows))
        ]
    )


def edge_of(panel: np.ndarray, background: tuple) -> tuple[int, int, int, int]:
    """Corners of what is drawn, the label tags (black or white) left out."""
    colourful = panel.max(2).astype(int) - panel.min(2) > 60
    y, x = np.nonzero(colourful & (panel != background).any(2))
    return x.min(), y.min(), x.max(), y.max()


def test_truth_and_findings_are_on_every_modality(root: Path) -> None:
    after_test(root, PairedVisualizationHook(interval=2, out_dir='seen'))
    files = list((root / 'run/seen/test').iterdir())
    assert [f.name for f in files] == ['00000_0.png']  # batch 0 of 2, its first sample
    found = panels(files[0])
    assert found.shape[:2] == (2, 2)
    for row in range(2):
        for column, grey in enumerate([(50, 40, 40), (90, 90, 90)]):
            panel = found[row, column]
            assert tuple(panel[110, 20]) == grey  # BGR was read as BGR
            # the weak finding at (5, 5) is not drawn, the box is where it belongs
            assert np.abs(np.subtract(edge_of(panel, grey), BOX[0])).max() <= 4
    red, green = found[0, 0], found[1, 0]  # truth: person, finding: car
    assert red[60, 40, 0] > 150 > red[60, 40, 1]
    assert green[60, 40, 1] > 150 > green[60, 40, 0]


def test_the_threshold_lets_weak_findings_in(root: Path) -> None:
    hook = PairedVisualizationHook(interval=9, out_dir='seen', score_thr=0.05)
    after_test(root, hook)
    panel = panels(root / 'run/seen/test/00000_0.png')[1, 1]
    assert np.abs(np.subtract(edge_of(panel, (90,) * 3)[:2], (5, 5))).max() <= 4


def test_an_absent_modality_is_an_empty_panel_in_a_file_of_its_own(root: Path) -> None:
    made = after_test(root, PairedVisualizationHook(interval=9, out_dir='seen'))
    hook = next(h for h in made.hooks if isinstance(h, PairedVisualizationHook))
    batch = next(iter(made.test_dataloader))
    without = drop_modalities(batch, ['rgb'])
    (root / 'rgb/0.png').unlink()  # not even looked at
    hook.after_test_iter(made, 0, without, made.model.test_step(without))
    names = sorted(f.name for f in (root / 'run/seen/test').iterdir())
    assert names == ['00000_0.png', '00000_0_no-rgb.png']
    image = cv2.imread(str(root / 'run/seen/test/00000_0_no-rgb.png'))
    assert image.shape[1] == 2 * SIZE[1] + GAP
    found = panels(root / 'run/seen/test/00000_0_no-rgb.png')
    assert set(np.unique(found[1, 0][:40])) == {36, 48}
    assert (found[1, 0] > 200).any()  # 'rgb is absent'
    assert (found[1, 1] == 90).all(2).mean() > 0.5


def test_training_shows_the_input_and_the_backend_stores_it(root: Path) -> None:
    hook = PairedVisualizationHook(draw_train=1)
    made = runner(
        root,
        hook,
        train_dataloader=loader(root),
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_dataloader=loader(root),
        val_cfg=dict(),
        val_evaluator=[],
    )
    made.train()
    files = {f.name: f for f in (root / 'run').rglob('vis_image/*.png')}
    # one training batch of two samples; validation after iteration 2
    assert sorted(files) == ['train_pairs_0.png', 'val_pairs_2.png']
    found = panels(files['train_pairs_0.png'])
    assert found.shape[:2] == (2, 2)
    for row in found:
        assert tuple(row[0, 110, 20]) == (50, 40, 40)
        assert np.abs(np.subtract(edge_of(row[1], (90,) * 3), BOX[0])).max() <= 4


def test_masks_of_mmseg_are_drawn() -> None:
    pytest.importorskip('mmseg')
    from mmseg.structures import SegDataSample
    from mmseg.visualization import SegLocalVisualizer

    visualizer = SegLocalVisualizer(alpha=0.5)
    visualizer.dataset_meta = dict(classes=('no', 'leaf'), palette=[[0, 0, 0]] * 2)
    visualizer.dataset_meta['palette'][1] = [0, 200, 0]
    mask = torch.zeros(1, *SIZE, dtype=torch.long)
    mask[:, :60] = 1
    sample = SegDataSample(gt_sem_seg=PixelData(data=mask))
    grey = np.full((*SIZE, 3), 100, np.uint8)
    drawn = draw_labels(visualizer, grey, sample, 'gt')
    assert drawn[10, 5].tolist() == [50, 150, 50]
    assert drawn[110, 5].tolist() == [50, 50, 50]
    assert np.array_equal(draw_labels(visualizer, grey, sample, 'pred'), grey)
    assert has_labels(sample, 'gt')
    assert not has_labels(sample, 'pred')
    assert 'add_image' not in vars(visualizer)  # as before


def test_a_visualizer_that_stores_no_picture_leaves_it() -> None:
    """That of mmseg 1.2.2 passes None if the sample has nothing to draw."""
    pytest.importorskip('mmseg')
    from mmseg.structures import SegDataSample
    from mmseg.visualization import SegLocalVisualizer

    class Classic(SegLocalVisualizer):
        def add_image(self, name: str, image: np.ndarray, step: int = 0) -> None:
            raise AssertionError('the picture must not be stored')

        def add_datasample(
            self,
            name: str,
            image: np.ndarray,
            data_sample: SegDataSample,
            draw_gt: bool = True,
            draw_pred: bool = True,
        ) -> None:
            drawn, meta = None, self.dataset_meta
            for wanted, key in ((draw_gt, 'gt_sem_seg'), (draw_pred, 'pred_sem_seg')):
                if wanted and key in data_sample:
                    drawn = self._draw_sem_seg(
                        image, data_sample.get(key), meta['classes'], meta['palette']
                    )
            self.add_image(name, drawn, 0)

    visualizer = Classic(alpha=0.5)
    palette = [[0, 0, 0], [0, 200, 0]]
    visualizer.dataset_meta = dict(classes=('no', 'leaf'), palette=palette)
    mask = torch.ones(1, *SIZE, dtype=torch.long)
    sample = SegDataSample(gt_sem_seg=PixelData(data=mask))
    gray = np.full((*SIZE, 3), 100, np.uint8)
    assert np.array_equal(draw_labels(visualizer, gray, sample, 'pred'), gray)
    drawn = draw_labels(visualizer, gray, sample, 'gt')
    assert drawn[-1, -1].tolist() == [50, 150, 50]
    assert np.array_equal(gray, np.full((*SIZE, 3), 100))


def test_a_visualizer_that_draws_no_samples_leaves_the_picture() -> None:
    image = np.full((*SIZE, 3), 100, np.uint8)
    from mmengine.structures import BaseDataElement

    sample = BaseDataElement(gt_instances=InstanceData())
    assert np.array_equal(draw_labels(Visualizer(), image, sample, 'gt'), image)
    assert not has_labels(sample, 'gt')


def test_one_camera_is_one_image(root: Path) -> None:
    inputs = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)
    images = packed_images(inputs, {})
    assert np.array_equal(images['image'], inputs.permute(1, 2, 0).numpy())
    dataset = loader(root)['dataset']
    batch = pseudo_collate([dataset[0]])
    meta = batch['data_samples'][0].metainfo
    shapes = {k: v.shape for k, v in packed_images(batch['inputs'][0], meta).items()}
    assert shapes == {'rgb': (*SIZE, 3), 'ir': (*SIZE, 1)}


def test_the_interval_must_be_positive() -> None:
    with pytest.raises(ValueError, match='interval must be at least 1, got 0'):
        PairedVisualizationHook(interval=0)
