"""Names of partner files."""

import pytest

from mmir.data.pairing import PairRule, PairRuleError


@pytest.mark.parametrize(
    ('rule', 'path', 'partner'),
    [
        (dict(folder=('vis', 'ir')), 'a/vis/b/1.png', 'a/ir/b/1.png'),
        (dict(folder=('vis', 'ir')), 'vis/vis/1.png', 'vis/ir/1.png'),  # the last one
        (dict(folder=('vis', 'ir/raw')), '/d/vis/1.png', '/d/ir/raw/1.png'),
        (dict(stem=('_RGB', '_T')), 'x_RGB/1_RGB.jpg', 'x_RGB/1_T.jpg'),
        (dict(stem=('', '_ir')), '1.v2.jpg', '1.v2_ir.jpg'),
        (dict(suffix='.tiff'), '1.jpg', '1.tiff'),
        (dict(suffix='.tiff'), 'a.b/1', 'a.b/1.tiff'),
        (dict(folder=('vis', 'ir'), suffix='.png'), 's3://b/vis/1.jpg', 's3://b/ir/1.png'),
        (
            dict(folder=('RGB', 'IR'), stem=('_RGB', '_Preview'), suffix='.jpeg'),
            'train/RGB/FLIR_1_RGB.jpg',
            'train/IR/FLIR_1_Preview.jpeg',
        ),
        (dict(prefix=('rgb_', 'ir_')), 'rgb_d/rgb_0001.png', 'rgb_d/ir_0001.png'),
        (dict(prefix=('', 'T-')), 'a/1.png', 'a/T-1.png'),
        (
            dict(folder=('v', 't'), prefix=('rgb_', 'ir_'), stem=('_c', '_g')),
            'v/rgb_rgb_1_c.png',
            't/ir_rgb_1_g.png',
        ),
        ({}, 'a/1.png', 'a/1.png'),
    ],
)  # fmt: skip
def test_partner(rule, path, partner):
    assert PairRule(**rule)(path) == partner


def test_there_and_back():
    there = PairRule(folder=('vis', 'ir'), stem=('_v', '_i'), suffix='.tiff')
    back = PairRule(folder=('ir', 'vis'), stem=('_i', '_v'), suffix='.png')
    path = '/data/vis/set/vis/001_v.png'
    assert back(there(path)) == path


@pytest.mark.parametrize(
    ('rule', 'message'),
    [
        (dict(folder=('vis', 'ir')), r"no folder 'vis' in a/visible/1\.png"),
        (
            dict(prefix=('rgb_', '')),
            r"name of a/visible/1\.png does not start with 'rgb_'",
        ),
        (dict(stem=('_RGB', '')), r"name of a/visible/1\.png does not end with '_RGB'"),
    ],
)
def test_a_rule_that_does_not_fit_names_the_file(rule, message):
    with pytest.raises(PairRuleError, match=message):
        PairRule(**rule)('a/visible/1.png')


def test_the_name_of_the_file_is_no_folder():
    with pytest.raises(PairRuleError, match='no folder'):
        PairRule(folder=('1.png', 'x'))('a/1.png')


def test_a_suffix_has_a_dot():
    with pytest.raises(PairRuleError, match="suffix 'png' must start with a dot"):
        PairRule(suffix='png')
