"""Check of all files before training."""

import logging
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from coco_files import write_image
from mmengine.dataset import BaseDataset, ConcatDataset

from mmir.data.check import (
    DAMAGED,
    DEGENERATE,
    EMPTY,
    FORMAT,
    MISSING,
    NOT_FINITE,
    OUTSIDE,
    RADIOMETRY,
    SHARED,
    SIZES,
    UNREADABLE,
)
from mmir.engine import ValidateDataHook, check_dataset
from mmir.transforms import (
    LoadPairedImages,
    LoadThermalImage,
    OnModality,
    RadiometricScale,
)
from mmir.utils.errors import AnnotationError

SIZE = (32, 40)


class Rows(BaseDataset):
    """Samples as given."""

    def __init__(self, rows: list[dict], load: object, **meta: object) -> None:
        self.rows = rows
        super().__init__(pipeline=[load], metainfo=meta, serialize_data=False)

    def load_data_list(self) -> list[dict]:
        return [dict(row) for row in self.rows]


@pytest.fixture
def rows(tmp_path: Path) -> list[dict]:
    """Write four valid pairs with one box each."""
    out = []
    for k in range(4):
        paths = {}
        for name in ('rgb', 'ir'):
            img = np.random.default_rng(k).integers(0, 256, (*SIZE, 3), np.uint8)
            paths[name] = str(write_image(tmp_path / name / f'{k}.png', img))
        box = [1.0, 2.0, 9.0, 14.0]
        out.append(
            dict(
                img_path=paths['rgb'],
                img_paths=paths,
                height=SIZE[0],
                width=SIZE[1],
                instances=[dict(bbox=box, bbox_label=0)],
            )
        )
    return out


def kinds(rows: list[dict], load: object = None, **meta: object) -> list[str]:
    """Return the kinds of problems found."""
    dataset = Rows(rows, load or LoadPairedImages(), **meta)
    report = check_dataset(dataset, workers=2, progress=False)
    assert report.samples == len(rows)
    assert report.skipped == []
    return [problem.kind for problem in report.problems]


def test_sound_data_has_no_problems(rows: list[dict]) -> None:
    assert kinds(rows) == []
    text = check_dataset(Rows(rows, LoadPairedImages()), progress=False).text()
    assert text.splitlines() == ['data', '  samples: 4', '  no problems']


def test_every_kind_is_told_and_names_its_file(rows: list[dict]) -> None:
    paths = [row['img_paths'] for row in rows]
    Path(paths[0]['ir']).unlink()
    whole = Path(paths[1]['ir']).read_bytes()
    Path(paths[1]['ir']).write_bytes(whole[: len(whole) // 2])
    cv2.imwrite(paths[2]['ir'], np.zeros(SIZE, np.uint16))
    cv2.imwrite(paths[3]['ir'], np.zeros((16, 20, 3), np.uint8))

    report = check_dataset(Rows(rows, LoadPairedImages()), progress=False)

    found = {problem.kind: problem for problem in report.problems}
    assert list(found) == [MISSING, UNREADABLE, FORMAT, SIZES]
    for kind, row in zip((MISSING, UNREADABLE, FORMAT), paths[:3], strict=True):
        assert found[kind].name == row['ir']
    assert str(found[SIZES]) == f'{paths[3]["rgb"]}: {SIZES} (rgb 40x32, ir 20x16)'
    assert f'  PROBLEM: {MISSING}: 1' in report.text().splitlines()


def test_what_the_loader_skips_is_no_reason_to_stop(rows: list[dict]) -> None:
    """The samples it skips are listed; wrong labels still raise an error."""
    Path(rows[0]['img_paths']['ir']).unlink()
    cv2.imwrite(rows[3]['img_paths']['ir'], np.zeros((16, 20, 3), np.uint8))
    rows[1]['instances'][0]['bbox'] = [5.0, 5.0, 5.0, 9.0]
    load = LoadPairedImages(on_error='skip')

    report = check_dataset(Rows(rows, load), progress=False)

    assert [problem.kind for problem in report.skipped] == [MISSING, SIZES]
    assert [problem.kind for problem in report.problems] == [DEGENERATE]
    assert [load(dict(row)) is None for row in rows] == [True, False, False, True]


def test_an_annotation_of_another_size_is_no_sound_image(rows: list[dict]) -> None:
    rows[0]['width'] = 41
    assert kinds(rows) == [FORMAT]


def test_missing_partners_may_be_absent(rows: list[dict]) -> None:
    Path(rows[0]['img_paths']['ir']).unlink()
    rows[1]['img_paths']['ir'] = None
    assert kinds(rows, LoadPairedImages(missing='absent')) == []
    assert kinds(rows, LoadPairedImages()) == [MISSING]


@pytest.mark.parametrize(
    ('box', 'kind'),
    [
        ([-9, 0, -3, 5], OUTSIDE),
        ([42, 0, 50, 5], OUTSIDE),
        ([5, 5, 5, 9], DEGENERATE),
        ([0, 0, float('nan'), 3], DEGENERATE),
    ],
)
def test_boxes_that_cannot_be_used_are_named(
    rows: list[dict], box: list[float], kind: str
) -> None:
    rows[2]['instances'].append(dict(bbox=box, bbox_label=0))
    report = check_dataset(Rows(rows, LoadPairedImages()), progress=False)
    (problem,) = report.problems
    assert (problem.kind, problem.name) == (kind, rows[2]['img_path'])
    assert str(box) in problem.detail


def test_boxes_over_the_edge_are_noted(rows: list[dict]) -> None:
    rows[2]['instances'].append(dict(bbox=[-3, 0, 5, 5], bbox_label=0))
    report = check_dataset(Rows(rows, LoadPairedImages()), progress=False)
    assert report.problems == []
    (note,) = report.notes
    assert note.startswith('1 boxes extend past the edge')
    assert rows[2]['img_path'] in note


def test_a_pixel_over_the_edge_is_a_matter_of_rounding(rows: list[dict]) -> None:
    rows[0]['instances'].append(dict(bbox=[-0.5, -1, 40.5, 33], bbox_label=0))
    assert kinds(rows) == []


def test_labels_are_compared_with_the_reference_of_the_dataset(
    rows: list[dict],
) -> None:
    cv2.imwrite(rows[0]['img_paths']['rgb'], np.zeros((64, 80, 3), np.uint8))
    load = LoadPairedImages(sizes='resize')
    assert kinds(rows, load) == [FORMAT]  # the size differs from the labels
    for row in rows:
        row['reference'] = 'ir'
    assert kinds(rows, load) == []


def test_files_of_two_samples_are_duplicates(rows: list[dict]) -> None:
    rows[1]['img_paths']['ir'] = rows[0]['img_paths']['ir']
    assert kinds(rows) == [SHARED]


def smooth_counts(step: int = 1) -> np.ndarray:
    """Draw a slope of 16-bit counts about 295 K in centikelvin."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (29000 + step * (21 * rows + 13 * columns)).astype(np.uint16)


def test_values_that_are_worth_a_note(rows: list[dict], tmp_path: Path) -> None:
    """Bytes in the wrong order and constant images, also at the second check."""
    for row in rows:
        write_image(row['img_paths']['ir'], smooth_counts())
    cv2.imwrite(rows[1]['img_paths']['ir'], smooth_counts().byteswap())
    cv2.imwrite(rows[2]['img_paths']['ir'], smooth_counts(0))
    projected = smooth_counts()
    projected[:1] = 0  # 3 % of the pixels
    cv2.imwrite(rows[3]['img_paths']['ir'], projected)
    for deep in (dict(bit_depth=16), dict(to_float32=True)):
        load = LoadPairedImages(dict(rgb={}, ir=dict(channels=1, **deep)))
        for _ in range(2):
            report = check_dataset(
                Rows(rows, load), cache=tmp_path / 'files.json', progress=False
            )
            assert report.ok
            swapped, constant, holes = report.notes
            assert holes.startswith('1 images of more than 8 bits have value 0')
            assert holes.endswith(rows[3]['img_paths']['ir'])
            assert swapped.startswith('1 images seem to have the two bytes')
            assert swapped.endswith(rows[1]['img_paths']['ir'])
            assert constant == (
                f'1 images have one value in all pixels: {rows[2]["img_paths"]["ir"]}'
            )


def test_temperatures_are_judged_as_in_training(rows: list[dict]) -> None:
    """The radiometry of the pipeline, for the modality it is meant for."""
    files = [row['img_paths']['ir'] for row in rows]
    for k, path in enumerate(files):
        write_image(path, smooth_counts() // (4 if k == 2 else 1))
        rows[k]['gain'] = 0.01
    cv2.imwrite(files[0], smooth_counts().byteswap())
    del rows[3]['gain']
    load = LoadPairedImages(dict(rgb={}, ir=dict(channels=1, to_float32=True)))
    dataset = Rows(rows, load)
    scale = OnModality('ir', RadiometricScale(gain='gain'), keys=['gain'])
    dataset.pipeline.transforms.append(scale)
    report = check_dataset(dataset, progress=False)
    assert [(p.kind, p.name) for p in report.problems] == [
        (RADIOMETRY, files[k]) for k in (0, 2, 3)
    ]
    said = [problem.detail for problem in report.problems]
    assert 'wrong order' in said[0]
    assert 'median' in said[1]
    assert "no key 'gain'" in said[2]

    single = Rows(
        [dict(img_path=path, gain=0.01) for path in files],
        LoadThermalImage(channels=1, bit_depth=16),
    )
    single.pipeline.transforms.append(RadiometricScale(gain='gain'))
    report = check_dataset(single, progress=False)
    assert [problem.name for problem in report.problems] == [files[0], files[2]]


def test_images_with_nan_are_named(rows: list[dict]) -> None:
    values = smooth_counts().astype(np.float32)
    values[3, 5] = np.nan
    path = str(Path(rows[1]['img_path']).with_suffix('.tiff'))
    write_image(path, values)
    rows[1]['img_path'] = path
    report = check_dataset(
        Rows(rows, LoadThermalImage(to_float32=True)), progress=False
    )
    assert [(p.kind, p.name) for p in report.problems] == [(NOT_FINITE, path)]


def test_one_camera_and_wrappers(rows: list[dict]) -> None:
    load = LoadThermalImage(on_error='skip')
    broken = Path(rows[0]['img_path'])
    broken.write_bytes(b'')
    parts = [Rows(rows[:2], load), Rows(rows[2:], load)]
    mixed = SimpleNamespace(dataset=ConcatDataset(parts))
    report = check_dataset(mixed, progress=False)
    assert report.samples == 4
    assert report.problems == []
    # training will skip it, so it is not an error
    assert [problem.kind for problem in report.skipped] == [UNREADABLE]
    assert report.skipped[0].name == str(broken)
    assert load.on_error == 'skip'


def test_an_empty_data_set_is_a_problem() -> None:
    report = check_dataset(Rows([], LoadPairedImages()), progress=False)
    assert [problem.kind for problem in report.problems] == [EMPTY]


def test_sound_files_are_read_once(
    rows: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / 'cache/files.json'
    read = []
    stock = LoadThermalImage.transform

    def counting(self: LoadThermalImage, sample: dict) -> dict:
        read.append(sample['img_path'])
        return stock(self, sample)

    monkeypatch.setattr(LoadThermalImage, 'transform', counting)
    dataset = Rows(rows, LoadPairedImages())
    check_dataset(dataset, cache=cache, progress=False)
    assert len(read) == 8
    check_dataset(dataset, cache=cache, progress=False)
    assert len(read) == 8

    changed = rows[3]['img_paths']['ir']
    cv2.imwrite(changed, np.zeros((8, 8), np.uint16))
    report = check_dataset(dataset, cache=cache, progress=False)
    assert read[8:] == [changed]
    assert [problem.kind for problem in report.problems] == [FORMAT]
    # what is checked for another depth is read again
    check_dataset(
        Rows(rows, LoadPairedImages(dict(rgb={}, ir=dict(to_float32=True)))),
        cache=cache,
        progress=False,
    )
    assert len(read) == 13

    cache.write_text('{')
    check_dataset(dataset, cache=cache, progress=False)
    assert len(read) == 21


def runner_of(folder: Path, dataset: object) -> SimpleNamespace:
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    return SimpleNamespace(
        work_dir=str(folder),
        train_loop=loop,
        val_loop=None,
        logger=logging.getLogger('check'),
    )


def test_the_hook_stops_the_training(
    rows: list[dict], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = runner_of(tmp_path, Rows(rows, LoadPairedImages()))
    ValidateDataHook().before_train(runner)
    assert (tmp_path / 'checked_files.json').is_file()

    Path(rows[0]['img_paths']['ir']).unlink()
    with pytest.raises(AnnotationError, match='train data\n  samples: 4') as caught:
        ValidateDataHook().before_train(runner)
    assert rows[0]['img_paths']['ir'] in str(caught.value)
    with caplog.at_level(logging.WARNING, logger='check'):
        ValidateDataHook(on_problem='warn').before_train(runner)
    assert rows[0]['img_paths']['ir'] in caplog.text


@pytest.mark.parametrize('options', [dict(on_problem='stop'), dict(splits=['test'])])
def test_unknown_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match='got'):
        ValidateDataHook(**options)


def test_damaged_jpegs_are_named_and_sound_ones_remembered(
    rows: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in rows:
        path = Path(row['img_paths']['ir']).with_suffix('.jpg')
        soft = cv2.resize(np.arange(80, dtype=np.uint8).reshape(8, 10) * 3, SIZE[::-1])
        row['img_paths']['ir'] = str(write_image(path, soft))
    broken = Path(rows[2]['img_paths']['ir'])
    data = broken.read_bytes()
    middle = (data.index(b'\xff\xda') + len(data)) // 2
    broken.write_bytes(data[:middle] + data[middle + 10 :])
    dataset, cache = Rows(rows, LoadPairedImages()), tmp_path / 'known.json'
    report = check_dataset(dataset, cache=cache, progress=False)
    assert [(p.kind, p.name) for p in report.problems] == [(DAMAGED, str(broken))]
    assert 'Corrupt JPEG data' in report.text()
    asked = []
    monkeypatch.setattr(
        'mmir.engine.dataset_check.damaged_jpegs',
        lambda paths, *rest: asked.extend(paths) or {},
    )
    check_dataset(dataset, cache=cache, progress=False)
    assert asked == [str(broken)]


def test_several_pages_are_an_unexpected_format(rows: list[dict]) -> None:
    path = Path(rows[1]['img_paths']['ir']).with_suffix('.tiff')
    page = np.zeros(SIZE, np.uint8)
    assert cv2.imwritemulti(str(path), [page, page])
    rows[1]['img_paths']['ir'] = str(path)
    assert kinds(rows) == [FORMAT]
