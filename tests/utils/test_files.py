"""Files are written completely or not at all."""

import json
import os

import pytest

from mmir.utils.errors import AnnotationError
from mmir.utils.files import (
    atomic_path,
    read_json,
    read_lines,
    read_text,
    write_bytes,
    write_json,
)


def test_json_is_written_in_full_or_not_at_all(tmp_path):
    path = tmp_path / 'new' / 'a.json'
    write_json({'a': 1}, path)
    with pytest.raises(TypeError):
        write_json({'a': [1, 2, object()]}, path)
    assert read_json(path) == {'a': 1}
    assert os.listdir(path.parent) == ['a.json']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_former_file_and_nothing_else(tmp_path, error):
    path = tmp_path / 'image.png'
    write_bytes(b'before', path)

    def interrupted():
        with atomic_path(path) as partial:
            assert (partial.parent, partial.suffix) == (tmp_path, '.png')
            partial.write_bytes(b'half')
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_bytes() == b'before'
    assert os.listdir(tmp_path) == ['image.png']


def test_a_folder_is_filled_in_full_or_not_at_all(tmp_path):
    for fails in (True, False):
        try:
            with atomic_path(tmp_path / 'set') as partial:
                partial.mkdir()
                write_json([1], partial / 'deep/a.json')
                if fails:
                    raise OSError
        except OSError:
            assert os.listdir(tmp_path) == []
    assert json.loads((tmp_path / 'set/deep/a.json').read_text()) == [1]
    assert os.listdir(tmp_path) == ['set']


def test_a_file_others_may_read_stays_readable_for_them(tmp_path):
    (tmp_path / 'plain').touch()
    write_bytes(b'', tmp_path / 'ours')
    assert (tmp_path / 'ours').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_json_that_was_cut_off_is_named(tmp_path):
    (tmp_path / 'a.json').write_text('{"images": [')
    with pytest.raises(AnnotationError, match=r'a\.json is not a complete JSON file'):
        read_json(tmp_path / 'a.json')
    with pytest.raises(FileNotFoundError, match=r'not found: .*b\.json'):
        read_json(tmp_path / 'b.json')


@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
def test_text_with_and_without_a_byte_order_mark(tmp_path, mark):
    path = tmp_path / 'a.txt'
    path.write_bytes(mark + '행인 \r\n\n two words\n'.encode())
    assert read_lines(path) == ['행인', 'two words']
    path.write_bytes(mark + b'{"a": "\xc3\xa9"}')
    assert read_json(path) == {'a': '\xe9'}


@pytest.mark.parametrize(
    ('content', 'line', 'why'),
    [
        ('car\n\u884c\u4eba\n'.encode('gbk'), 2, 'invalid'),
        ('car\nperson\n'.encode('utf-16'), 1, 'UTF-16'),
        ('car\nperson\n'.encode('utf-16-le'), 1, 'NUL bytes'),
        (b'car\nperson\nvan\0', 3, 'NUL bytes'),
    ],
)
def test_other_encodings_are_refused_by_line(tmp_path, content, line, why):
    path = tmp_path / 'classes.txt'
    path.write_bytes(content)
    for read in (read_text, read_lines, read_json):
        with pytest.raises(
            AnnotationError, match=rf'classes\.txt:{line}: .*{why}'
        ) as error:
            read(path)
        assert 'Save the file as UTF-8' in str(error.value)
