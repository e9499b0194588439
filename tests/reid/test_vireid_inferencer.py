"""`VIReIDInferencer`: matches by definition, files and arrays, pictures, messages."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from reid_models import RESNET, WIDTH, people
from torch.nn.functional import cosine_similarity

from mmir.apis import VIReIDInferencer
from mmir.registry import MODELS
from mmir.utils.errors import UserError

CFG = dict(
    default_scope='mmpretrain',
    model=dict(
        type='mmir.VIReID',
        data_preprocessor=dict(
            type='ClsDataPreprocessor', mean=[100] * 3, std=[50] * 3, to_rgb=True
        ),
        backbone=dict(type='mmir.TwoStemBackbone', backbone=RESNET),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='mmir.VIReIDHead', num_classes=4, in_channels=WIDTH),
    ),
    test_dataloader=dict(
        dataset=dict(
            pipeline=[
                dict(type='LoadImageFromFile', _scope_='mmir'),
                dict(type='Resize', scale=(32, 64)),
                dict(type='PackInputs', meta_keys=('img_path', 'modality')),
            ]
        )
    ),
)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Four pictures; the last one is in a subfolder, beside a text."""
    rng = np.random.default_rng(0)
    found = []
    for name in ('a', 'b', 'c', 'more/d'):
        path = tmp_path / f'gallery/{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (64, 32, 3), np.uint8))
        found.append(path)
    (tmp_path / 'gallery/list.txt').write_text('no image')
    return found


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Config and checkpoint; the stems differ."""
    torch.manual_seed(0)
    cfg = Config(CFG)
    cfg.dump(tmp_path / 'config.py')
    model = MODELS.build(dict(cfg.model, _scope_='mmpretrain'))
    model.init_weights()
    for p in model.parameters():
        p.data += 0.05 * torch.randn(p.shape)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    return str(tmp_path / 'config.py'), str(tmp_path / 'model.pth')


def feature(find: VIReIDInferencer, path: Path, modality: str) -> torch.Tensor:
    """Feature of an image, computed without the inferencer."""
    image = cv2.imread(str(path))[..., ::-1].astype(np.float32)
    x = torch.from_numpy((image - 100) / 50).permute(2, 0, 1)[None]
    with torch.no_grad():
        (sample,) = find.model(x, people([modality], [0]), mode='predict')
    return sample.feature


@pytest.mark.parametrize('modality', ['rgb', 'ir'])
def test_matches_by_definition(modality, images, files) -> None:
    other = dict(rgb='ir', ir='rgb')[modality]
    folder = images[0].parent
    options = dict(gallery_modality=modality, batch_size=3, device='cpu')
    find = VIReIDInferencer(*files, gallery=folder, **options)
    assert [Path(p) for p in find.gallery] == images
    query = feature(find, images[1], other)
    scores = [
        float(cosine_similarity(query, feature(find, p, modality), dim=0))
        for p in images
    ]
    (matches,) = find(str(images[1]), topk=3)
    order = np.argsort(scores)[::-1][:3].tolist()
    assert [m['sample_idx'] for m in matches] == order
    assert [m['sample']['img_path'] for m in matches] == [str(images[k]) for k in order]
    found = [m['match_score'] for m in matches]
    np.testing.assert_allclose(found, [scores[k] for k in order], atol=1e-5)


def test_arrays_are_as_good_as_files(images, files) -> None:
    arrays = [cv2.imread(str(path)) for path in images]
    options = dict(device='cpu')
    by_file = VIReIDInferencer(*files, gallery=images, **options)
    by_array = VIReIDInferencer(*files, gallery=arrays, **options)
    one = by_file(images, batch_size=2, return_datasamples=True)
    other = by_array(arrays, return_datasamples=True)
    for a, b in zip(one, other, strict=True):
        assert a.modality == b.modality == 'ir'
        torch.testing.assert_close(a.pred_score, b.pred_score, atol=1e-5, rtol=0)
    assert by_array(arrays[0], topk=9)[0][0]['sample'] == {}
    assert len(by_array(arrays[0], topk=9)[0]) == 4


def test_pictures(images, files, tmp_path: Path) -> None:
    find = VIReIDInferencer(*files, gallery=images, device='cpu')
    find([images[0], images[0], images[3]], topk=2, show_dir=tmp_path / 'shown')
    written = sorted(p.name for p in (tmp_path / 'shown').iterdir())
    assert written == ['a.png', 'a_1.png', 'd.png']
    picture = cv2.imread(str(tmp_path / 'shown/a.png'))
    assert picture.shape[1] > picture.shape[0]  # three panels in a row


def test_a_built_model_keeps_its_weights(images, files) -> None:
    first = VIReIDInferencer(*files, gallery=images, device='cpu')
    again = VIReIDInferencer(first.model, gallery=images, device='cpu')
    assert torch.equal(again.gallery_features, first.gallery_features)


def test_what_is_wrong_is_named(images, files, tmp_path: Path) -> None:
    config, checkpoint = files
    with pytest.raises(UserError, match='name the checkpoint'):
        VIReIDInferencer(config, gallery=images)
    with pytest.raises(UserError, match=r"choose one of \('rgb', 'ir'\)"):
        VIReIDInferencer(*files, gallery=images, gallery_modality='thermal')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='no images'):
        VIReIDInferencer(*files, gallery=tmp_path / 'empty', device='cpu')
    weights = torch.load(checkpoint)['state_dict']
    weights.pop('head.bn.weight')
    torch.save(dict(state_dict=weights), tmp_path / 'part.pth')
    with pytest.raises(UserError, match=r'head\.bn\.weight'):
        VIReIDInferencer(config, str(tmp_path / 'part.pth'), gallery=images)
    find = VIReIDInferencer(*files, gallery=images, device='cpu')
    with pytest.raises(UserError, match='topk=0'):
        find(images[0], topk=0)


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((64, 32), np.uint8),
        np.zeros((64, 32, 1), np.uint8),
        np.zeros((64, 32, 3), np.float32),
    ],
)
def test_arrays_of_another_kind_are_refused(
    images: list[Path], files: tuple[str, str], image: np.ndarray
) -> None:
    find = VIReIDInferencer(*files, gallery=images[:2], device='cpu')
    with pytest.raises(UserError, match='pass the file'):
        find(image)
