import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.det.datasets import choose_subset
from mmir.det.datasets.few_shot import subset_order
from mmir.utils.errors import AnnotationError

LABELS = st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=30)


def names_of(labels):
    return [f'{k:03d}.png' for k in range(len(labels))]


@settings(max_examples=100, deadline=None)
@given(LABELS, st.integers(0, 5))
def test_subsets_of_a_seed_are_nested_and_show_every_class(labels, seed):
    names = names_of(labels)
    classes = set().union(*labels)
    before = set()
    for num in range(1, len(names) + 1):
        chosen = choose_subset(names, labels, 'ann.json', num=num, seed=seed)
        assert len(chosen) == num
        assert chosen == sorted(set(chosen))
        assert before <= set(chosen)
        before = set(chosen)
        if num >= len(classes):
            assert set().union(*(labels[k] for k in chosen)) == classes


@settings(max_examples=50, deadline=None)
@given(LABELS, st.randoms(use_true_random=False))
def test_the_order_in_the_file_does_not_matter(labels, random):
    names = names_of(labels)
    order = list(range(len(names)))
    random.shuffle(order)
    straight = [names[k] for k in subset_order(names, labels, 3)]
    mixed_names = [names[k] for k in order]
    mixed = subset_order(mixed_names, [labels[k] for k in order], 3)
    assert [mixed_names[k] for k in mixed] == straight


def test_seeds_differ_and_repeat():
    labels = [{0}] * 200
    chosen = [tuple(subset_order(names_of(labels), labels, s)[:10]) for s in range(20)]
    assert len(set(chosen)) == 20
    assert chosen[4] == tuple(subset_order(names_of(labels), labels, 4)[:10])


def test_every_image_is_equally_likely():
    """With one class, covering it favors no image."""
    labels = [{0}] * 20
    hits = [0] * 20
    for seed in range(1000):
        for k in choose_subset(names_of(labels), labels, '', num=5, seed=seed):
            hits[k] += 1
    # Binomial(1000, 1/4): mean 250, standard deviation 13.7.
    assert max(abs(h - 250) for h in hits) < 5 * 13.7


@pytest.mark.parametrize(
    ('total', 'frac', 'num'),
    [(8862, 0.01, 88), (6200, 0.01, 62), (100, 0.29, 29), (10, 0.01, 1), (7, 1, 7)],
)
def test_fractions(total, frac, num):
    labels = [{0}] * total
    assert len(choose_subset(names_of(labels), labels, '', frac=frac)) == num


def test_written_lists(tmp_path):
    names = names_of(range(6))
    labels = [set()] * 6
    text, record = tmp_path / 'list.txt', tmp_path / 'subset_train.json'
    text.write_text('004.png\n001.png\n\n')
    record.write_text(json.dumps({'num': 2, 'files': ['004.png', '001.png']}))
    for files in (text, str(record), ['004.png', '001.png']):
        assert choose_subset(names, labels, 'ann.json', files=files) == [1, 4]
    with pytest.raises(AnnotationError, match=r'1 of 2 images .* in ann.json: x.png'):
        choose_subset(names, labels, 'ann.json', files=['x.png', '001.png'])
    with pytest.raises(FileNotFoundError, match='subset list not found'):
        choose_subset(names, labels, 'ann.json', files=tmp_path / 'no.txt')


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({}, 'exactly one of num, frac and files'),
        ({'num': 1, 'frac': 0.5}, 'exactly one of num, frac and files'),
        ({'num': 7}, r'num=7, but ann.json has 6 images'),
        ({'num': 0}, 'num=0'),
        ({'frac': 1.5}, r'frac=1.5 is not in \(0, 1\]'),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        choose_subset(names_of(range(6)), [set()] * 6, 'ann.json', **kwargs)


def test_a_list_with_a_mark_and_a_json_file_without_names(tmp_path):
    path = tmp_path / 'list.TXT'
    path.write_bytes(b'\xef\xbb\xbf004.png\r\n')
    names, labels = names_of(range(6)), [set()] * 6
    assert choose_subset(names, labels, 'ann.json', files=path) == [4]
    path = tmp_path / 'list.JSON'
    path.write_text('{"names": ["004.png"]}')
    with pytest.raises(AnnotationError, match=r'list\.JSON holds no list of names'):
        choose_subset(names, labels, 'ann.json', files=path)
