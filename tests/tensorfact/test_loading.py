"""State dicts of TensorFactConv: dense, factorized, widened, damaged; ConvModule."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, ExponentialMovingAverage
from mmengine.model import Sequential as MMSequential
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mmir.tensorfact import TensorFactConv


def net(rank=3):
    return nn.Sequential(
        TensorFactConv(3, 8, 3, rank=rank),
        nn.ReLU(),
        TensorFactConv(8, 8, 3, rank=rank),
    )


def dense_state():
    convs = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    return convs.state_dict()


def load_by_torch(model, state):
    return model.load_state_dict(state)


def load_by_mmengine(model, state):
    return load_state_dict(model, state, strict=True)


LOADERS = pytest.mark.parametrize('load', [load_by_torch, load_by_mmengine])


@LOADERS
def test_round_trip_with_deltas(load):
    source, target = net(), net()
    for model in (source, target):
        model[2].augment('ir', 2)
    nn.init.normal_(source[2].deltas['ir'].A)
    load(target, source.state_dict())
    for key, value in target.state_dict().items():
        assert torch.equal(value, source.state_dict()[key])


@LOADERS
def test_dense_checkpoint_is_factorised(load):
    model, state = net(), dense_state()
    keys = list(state)
    load(model, state)
    for index in ('0', '2'):
        conv = nn.Conv2d(*state[f'{index}.weight'].shape[1::-1], 3)
        conv.load_state_dict({k: state[f'{index}.{k}'] for k in ('weight', 'bias')})
        expected = TensorFactConv.from_conv(conv, 3)
        layer = model.get_submodule(index)
        assert torch.equal(layer.A, expected.A)
        assert torch.equal(layer.B, expected.B)
        assert torch.equal(layer.bias, conv.bias)
    assert list(state) == keys


@LOADERS
def test_rank_mismatch_names_the_layer(load):
    with pytest.raises(
        ValueError, match=r'^0: A of .* has rank 3, the layer has rank 4'
    ):
        load(net(4), net(3).state_dict())


def test_rank_mismatch_is_fatal_even_where_the_host_only_warns():
    with pytest.raises(ValueError, match='has rank 3, the layer has rank 4'):
        load_state_dict(net(4), net(3).state_dict(), strict=False)


def test_delta_rank_mismatch_names_the_layer():
    source, target = net(), net()
    source[2].augment('ir', 2)
    target[2].augment('ir', 1)
    with pytest.raises(
        ValueError, match=r'^2: deltas.ir.A .* rank 2, the layer has rank 1'
    ):
        target.load_state_dict(source.state_dict())


@LOADERS
def test_deltas_of_a_checkpoint_are_added_frozen(load):
    source, target = net(), net()
    source[2].augment('ir', 2)
    nn.init.normal_(source[2].deltas['ir'].A)
    with pytest.warns(UserWarning, match="delta 'ir' the model lacks"):
        load(target, source.state_dict())
    assert torch.equal(target[2].kernel(), source[2].kernel())
    assert not target[2].deltas['ir'].A.requires_grad
    assert 'ir' not in target[0].deltas


def test_base_checkpoint_into_a_widened_model_lacks_only_the_deltas():
    state, model = net().state_dict(), net()
    before = nn.Module.load_state_dict(model, state)
    assert not before.missing_keys
    for layer in (model[0], model[2]):
        layer.augment('ir', 1)
    result = model.load_state_dict(state, strict=False)
    assert result.unexpected_keys == []
    assert result.missing_keys == [
        f'{layer}.deltas.ir.{factor}' for layer in (0, 2) for factor in 'AB'
    ]
    x = torch.randn(1, 3, 9, 9)
    plain = net()
    plain.load_state_dict(state)
    assert torch.equal(model(x), plain(x))


@LOADERS
@pytest.mark.parametrize('key', ['0.A', '2.bias', '2.B'])
def test_damaged_weights_name_layer_and_key(load, key):
    state = net().state_dict()
    state[key].view(-1)[1] = float('nan')
    with pytest.raises(ValueError, match=rf'^{key[0]}: {key[2:]} holds NaN'):
        load(net(), state)


def test_damaged_dense_weights_name_the_layer():
    state = dense_state()
    state['2.weight'][0] = float('inf')
    with pytest.raises(ValueError, match=r'^2: weight holds NaN or infinite'):
        net().load_state_dict(state)


def test_missing_foreign_and_misshapen_keys_are_reported():
    state = net().state_dict()
    state['0.C'] = state.pop('0.A')
    with pytest.raises(RuntimeError) as error:
        net().load_state_dict(state)
    assert 'Missing key(s) in state_dict: "0.A"' in str(error.value)
    assert 'Unexpected key(s) in state_dict: "0.C"' in str(error.value)
    state = dense_state()
    state['0.weight'] = torch.zeros(8, 4, 3, 3)
    with pytest.raises(RuntimeError, match=r'size mismatch for 0: .*\(8, 4, 3, 3\)'):
        net().load_state_dict(state)


def test_half_precision_dense_checkpoint():
    state = {key: value.half() for key, value in dense_state().items()}
    model = net(9)
    model.load_state_dict(state)
    torch.testing.assert_close(
        model[2].kernel(), state['2.weight'].float(), rtol=1e-5, atol=1e-6
    )


def conv_module(**options):
    return ConvModule(
        8, 16, 3, padding=1, conv_cfg={'type': 'TensorFactConv', 'rank': 4}, **options
    )


def test_conv_module_keeps_the_factors():
    torch.manual_seed(0)
    block = conv_module(norm_cfg={'type': 'BN'})
    assert type(block.conv) is TensorFactConv
    assert block.conv.bias is None
    before = block.conv.kernel()
    block.init_weights()
    assert torch.equal(block.conv.kernel(), before)
    model = MMSequential(block, init_cfg={'type': 'Kaiming', 'layer': 'Conv2d'})
    model.init_weights()
    assert torch.equal(block.conv.kernel(), before)
    assert block(torch.randn(2, 8, 6, 6)).shape == (2, 16, 6, 6)


def test_conv_module_with_pointwise_kernel_and_explicit_padding():
    cfg = {'type': 'TensorFactConv', 'rank': 4}
    block = ConvModule(8, 16, 1, conv_cfg=cfg)
    assert block.conv.rank == 1
    block = ConvModule(8, 16, 3, padding=1, padding_mode='reflect', conv_cfg=cfg)
    assert block(torch.randn(2, 8, 6, 6)).shape == (2, 16, 6, 6)


def test_efficient_conv_bn_eval_sees_the_kernel():
    block = conv_module(norm_cfg={'type': 'BN'}).eval()
    block.bn.running_mean.normal_()
    block.bn.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 8, 6, 6)
    expected = block(x)
    block.turn_on_efficient_conv_bn_eval()
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_pretrained_dense_weights_through_init_cfg(tmp_path):
    dense = ConvModule(8, 16, 3, norm_cfg={'type': 'BN'})
    torch.save(
        {'state_dict': {'block.' + k: v for k, v in dense.state_dict().items()}},
        tmp_path / 'dense.pth',
    )

    class Net(BaseModule):
        def __init__(self):
            super().__init__(
                {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'dense.pth')}
            )
            self.block = conv_module(norm_cfg={'type': 'BN'})

    model = Net()
    model.init_weights()
    expected = TensorFactConv.from_conv(dense.conv, 4)
    assert torch.equal(model.block.conv.kernel(), expected.kernel())


@pytest.mark.parametrize('update_buffers', [False, True])
def test_moving_average_of_weights(update_buffers):
    model = net()
    model[2].augment('ir', 1)
    average = ExponentialMovingAverage(model, 0.5, update_buffers=update_buffers)
    average.update_parameters(model)
    first = {key: value.clone() for key, value in model.state_dict().items()}
    nn.init.normal_(model[2].deltas['ir'].A)
    average.update_parameters(model)
    for key, value in average.module.state_dict().items():
        expected = (first[key] + model.state_dict()[key]) / 2
        torch.testing.assert_close(value, expected)


def test_resume_with_optimizer_state():
    def train(model, optimizer, steps, seed):
        torch.manual_seed(seed)
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(2, 3, 8, 8)).square().mean().backward()
            optimizer.step()

    def start():
        torch.manual_seed(0)
        model = net()
        model.requires_grad_(False)
        for layer in (model[0], model[2]):
            layer.augment('ir', 1)
        return model, torch.optim.AdamW(model.parameters(), lr=0.01)

    straight, optimizer = start()
    train(straight, optimizer, 2, 1)
    saved = {k: v.clone() for k, v in straight.state_dict().items()}
    resumed, other = start()
    resumed.load_state_dict(saved)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, opt in ((straight, optimizer), (resumed, other)):
        train(model, opt, 2, 2)
    for key, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key])
