"""Training starts from a checkpoint only if it belongs to the network."""

import pytest
import torch
from torch import nn

from mmir.adapters.checkpoint_fit import CheckpointMismatchError, check_fits
from mmir.fusion.stem import widen_stem_
from mmir.tensorfact import augment_, factorize_


class Detector(nn.Module):
    def __init__(self, classes: int = 3, width: int = 16) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(8, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 16, 3)
        )
        self.bbox_head = nn.Conv2d(16, classes, 1)


def fits(model: nn.Module, state: dict) -> bool:
    """Whether the check passes; it never changes the model."""
    before = {k: v.clone() for k, v in model.state_dict().items()}
    try:
        check_fits(model, state, 'rgb.pth')
    finally:
        for key, value in model.state_dict().items():
            assert value.equal(before[key])
    return True


def staged() -> nn.Module:
    model = Detector()
    factorize_(model, rank=2)
    augment_(model, 'ir', 1)
    return model


def test_dense_and_factorised_weights_fit_a_stage() -> None:
    model = staged()
    assert fits(model, Detector().state_dict())
    factorised = Detector()
    factorize_(factorised, rank=2)
    assert fits(model, factorised.state_dict())
    assert fits(model, model.state_dict())


def test_what_a_layer_translates_fits() -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))

    colours, wide = network().state_dict(), network()
    widen_stem_(wide, (3, 1))
    assert fits(wide, colours)
    colours['0.weight'] = torch.ones(4, 2, 3, 3)  # neither 3 channels nor 4
    with pytest.raises(CheckpointMismatchError, match=r'another shape.*0\.weight'):
        fits(wide, colours)


def test_heads_may_differ() -> None:
    assert fits(Detector(classes=4), Detector(classes=3).state_dict())
    state = Detector().state_dict()
    assert fits(Detector(), {k: v for k, v in state.items() if 'head' not in k})
    assert fits(Detector(), {**state, 'mask_head.weight': torch.ones(1)})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.pop('backbone.2.weight'), r'1 are missing: backbone\.2\.weight'),
        (lambda s: s.update(neck=torch.ones(1)), '1 are not in the model: neck'),
        (
            lambda s: s.update({'backbone.2.bias': torch.ones(7)}),
            r'1 have another shape in the model: backbone\.2\.bias',
        ),
        (
            lambda s: s['backbone.1.bias'].fill_(float('nan')),
            r'1 hold NaN or infinite values: backbone\.1\.bias',
        ),
    ],
)
def test_everything_else_is_named(change, message: str) -> None:
    state = Detector().state_dict()
    change(state)
    with pytest.raises(CheckpointMismatchError, match=message) as caught:
        fits(Detector(), state)
    assert 'rgb.pth' in str(caught.value)


def test_a_prefix_of_all_keys_is_named() -> None:
    state = {f'net.{key}': value for key, value in Detector().state_dict().items()}
    with pytest.raises(CheckpointMismatchError, match="begin with 'net\\.'") as caught:
        fits(Detector(), state)
    advice = str(caught.value).partition('without: ')[2].partition('\n')[0]
    assert fits(Detector(), eval(advice, {'weights': state}))
    with pytest.raises(CheckpointMismatchError) as caught:
        fits(Detector(), {**state, 'head.weight': torch.ones(1)})
    assert 'begin with' not in str(caught.value)


def test_another_rank_names_the_layer() -> None:
    other = Detector()
    factorize_(other, rank=3)
    with pytest.raises(CheckpointMismatchError, match=r'backbone\.0.*rank'):
        fits(staged(), other.state_dict())


def test_another_network_is_refused() -> None:
    with pytest.raises(CheckpointMismatchError, match='does not fit the model'):
        fits(Detector(), nn.Sequential(nn.Conv2d(3, 4, 3)).state_dict())


def test_nothing_is_decomposed_for_the_check(monkeypatch):
    """Names and shapes tell; the one decomposition is that of the real load."""
    from mmir.tensorfact import TensorFactConv

    calls, decompose = [], TensorFactConv.decompose
    monkeypatch.setattr(
        TensorFactConv,
        'decompose',
        lambda layer, kernel: calls.append(layer) or decompose(layer, kernel),
    )
    dense, model = Detector(), Detector()
    layers = factorize_(model, rank=2).layers
    calls.clear()
    assert fits(model, dense.state_dict())
    assert calls == []
    model.load_state_dict(dense.state_dict())
    assert len(calls) == len(layers) > 0


@pytest.mark.parametrize('kind', ['weight_norm', 'spectral_norm'])
def test_computed_kernels_can_be_compared(kind):
    """Their results are no leaves of the graph, which torch refuses to copy."""
    model = nn.Sequential(getattr(nn.utils, kind)(nn.Conv2d(3, 8, 3)))
    model(torch.randn(1, 3, 9, 9))
    before = model[0].weight.clone()
    check_fits(model, model.state_dict(), 'own.pth')
    assert torch.equal(model[0].weight, before)
    state = {k: v for k, v in model.state_dict().items() if k != '0.bias'}
    with pytest.raises(CheckpointMismatchError, match=r'1 are missing: 0\.bias'):
        check_fits(model, state, 'other.pth')
