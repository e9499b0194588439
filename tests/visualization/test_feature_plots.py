"""Plots of features show what they are given."""

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from mmir.visualization.features import (
    DEPTH,
    save_frequency_figure,
    save_map_figure,
    save_spectrum_figure,
)


def caught(monkeypatch) -> list[Figure]:
    """Figures that are written from now on."""
    figures, save = [], Figure.savefig

    def record(figure: Figure, *args, **kwargs) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', record)
    return figures


def test_spectrum(monkeypatch, tmp_path):
    figures = caught(monkeypatch)
    depth = {key: [3.0, 2.0] for key in DEPTH}
    lines = {'a': dict(depth, spectrum=[0.75, 0.25, 1e-17]), 'b': None}
    lines['b'] = dict(lines['a'], effective_rank=[1.0, 1.5])
    path = save_spectrum_figure(tmp_path / 'new' / 'spectrum.png', lines)
    assert cv2.imread(str(path)).ndim == 3
    rank, *_, last = figures[0].axes
    assert [[*line.get_ydata()] for line in rank.lines] == [[3, 2], [1, 1.5]]
    assert [*rank.lines[0].get_xdata()] == [1, 2]
    assert last.lines[0].get_ydata().tolist() == [0.75, 0.25]
    names = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert names == ['a', 'b']


def test_frequency(monkeypatch, tmp_path):
    figures = caught(monkeypatch)
    curve = [0.1, 0.2], [4.0, 0.5]
    kinds = dict(rgb=curve, ir=([0.1, 0.2], [3.0, 0.6]))
    path = tmp_path / 'frequency.png'
    save_frequency_figure(path, dict(rgb=curve), dict(one=kinds, two=dict(ir=curve)))
    left, right = figures[0].axes
    assert left.lines[0].get_label() == 'rgb'
    lines = right.lines[:3]
    assert [line.get_label() for line in lines] == ['one, rgb', 'one, ir', 'two, ir']
    assert lines[1].get_linestyle() == lines[2].get_linestyle() != '-'
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    assert [*lines[1].get_ydata()] == [3, 0.6]
    assert right.get_xscale() == right.get_yscale() == 'log'


def test_maps(monkeypatch, tmp_path):
    figures = caught(monkeypatch)
    energy = np.linspace(0, 1, 100).reshape(10, 10)
    picture = np.zeros((4, 6, 3), np.uint8)
    rows = [('a', dict(rgb=picture)), ('b', dict(rgb=picture, energy=energy))]
    save_map_figure(tmp_path / 'maps.png', ['rgb', 'energy'], rows)
    one, empty, _, other = figures[0].axes
    assert (one.get_title(), one.get_ylabel()) == ('rgb', 'a')
    assert not empty.images
    assert other.images[0].get_clim() == pytest.approx((0.01, 0.99))
    assert np.array_equal(other.images[0].get_array(), energy)
