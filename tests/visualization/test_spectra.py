"""Dataset plots show the given numbers."""

import cv2
from matplotlib.figure import Figure

from mmir.visualization.spectra import (
    plot_bars,
    plot_shares,
    plot_spectra,
    save_dataset_figure,
)


def test_plots_hold_the_numbers_given() -> None:
    axes = Figure().subplots(1, 3)
    plot_spectra(axes[0], {'ir': ([0.1, 0.2], [3.0, 2.0])})
    assert axes[0].lines[0].get_ydata().tolist() == [3.0, 2.0]
    assert axes[0].get_yscale() == 'log'
    plot_bars(axes[1], {'rgb': {'low': 0.7, 'high': 0.3}, 'ir': {'low': 1.0}}, 't')
    assert [bar.get_height() for bar in axes[1].patches] == [0.7, 0.3, 1.0, 0]
    assert [t.get_text() for t in axes[1].get_xticklabels()] == ['low', 'high']
    plot_shares(axes[2], {'a': ([0, 1, 2], [5, 6])}, 't', 'grey')
    assert axes[2].patches[0].get_data().values.tolist() == [5, 6]


def test_the_figure_has_a_plot_for_each_part(tmp_path) -> None:
    row = {
        'histogram': {'edges': [0, 0.5, 1], 'shares': [0.2, 0.8]},
        'spectrum': {'frequency': [0.1, 0.2], 'power': [3, 1]},
        'energy': {'low': 0.9, 'mid': 0.1, 'high': 0.0},
    }
    report = {
        'modalities': {'rgb': row, 'ir': row | {'histogram': None}},
        'correlation': {'rgb, ir': {'low': {'mean': -0.1, 'size': 0.4}}},
        'brightness': {
            'modality': 'rgb', 'edges': [0, 8, 16], 'counts': [1, 2], 'night_below': 9,
        },
        'labels': {'unit': 'boxes', 'classes': {'car': 3}, 'sizes': {'small': 3}},
    }  # fmt: skip
    full = cv2.imread(str(save_dataset_figure(tmp_path / 'a/full.png', report)))
    bare = {'modalities': {'ir': row}, 'labels': None}
    less = cv2.imread(str(save_dataset_figure(tmp_path / 'less.png', bare)))
    assert full.shape[0] > 2.8 * less.shape[0]
    assert full.shape[1] == less.shape[1]
    assert ((full != 255).any(2)).mean() > 0.03
