"""IV-tuning of whole backbones: identities, propagation of prompts, counts."""

import copy
from functools import partial

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn
from transformers import CONFIGS, image, network, outputs

from mmir.adapters import (
    adapt_,
    adapter_state,
    load_adapter,
    load_adapter_state,
    save_adapter,
    switch_adapter_,
    unload_adapter,
)
from mmir.adapters.transformers import find_transformers
from mmir.ivtuning import IVTuning
from mmir.ivtuning.block import PromptedBlock

SMALL = dict(rank=8, prompt_rank=4)


def tuned(name: str, **options) -> nn.Module:
    model = network(name)
    torch.manual_seed(1)
    adapt_(model, IVTuning(**SMALL | options), trainable=[])
    model.eval()
    return model


def equal(first: list, second: list) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('variant', ['hybrid', 'mp'])
def test_with_zero_init_it_is_the_frozen_backbone(name, variant):
    model, plain = tuned(name, variant=variant, zero_init=True), network(name)
    plain.requires_grad_(False)  # frozen attention of PyTorch may round otherwise
    for seed in (3, 4):
        x = image(name, seed=seed)
        assert equal(outputs(model, x), outputs(plain, x[:, :3]))


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('variant', ['hybrid', 'mp'])
def test_as_published_it_differs_and_sees_infrared(name, variant):
    model, x = tuned(name, variant=variant), image(name)
    plain, both = outputs(network(name), x[:, :3]), outputs(model, x)
    other = x.clone()
    other[:, 3:] = -other[:, 3:]
    assert not any(map(torch.equal, both, plain))
    assert not any(map(torch.equal, outputs(model, other), both))


def blocks_of(model: nn.Module) -> list[PromptedBlock]:
    return [m for m in model.modules() if isinstance(m, PromptedBlock)]


def record(model: nn.Module, x: torch.Tensor) -> tuple[list, list, list]:
    """Input and output tokens of each block, and the prompts it was given."""
    inputs, results, prompts, handles = [], [], [], []
    for block in blocks_of(model):
        steps = block.adapters['ir']
        handles += [
            block.register_forward_hook(
                lambda _, args, out: (
                    (inputs.append(args[0]), results.append(out))[:0] or None
                )
            ),
            steps.register_forward_pre_hook(lambda _, args: prompts.append(args[2])),
        ]
    outputs(model, x)
    for handle in handles:
        handle.remove()
    return inputs, results, prompts


def generated_prompts(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Prompts from the patch embedding alone; no block takes them off the board."""
    model.patch_embed(x)
    return model.patch_embed.board.prompts[0]


@pytest.mark.parametrize('name', ['vit', 'eva02', 'beit', 'mmseg_mae'])
@pytest.mark.parametrize('update', [None, 'stage'])
def test_prompts_of_plain_transformers(name, update):
    model, x = tuned(name, prompt_update=update), image(name)
    inputs, _, prompts = record(model, x)
    generated = generated_prompts(model, x)
    assert len(prompts) == 2 * len(inputs) == 6
    for block, tokens in enumerate(inputs):
        own = tokens[:, tokens.shape[1] - generated.shape[1] :]
        expected = own if block and update is None else generated
        for place in (0, 1):
            assert torch.equal(prompts[2 * block + place], expected)
    plain = network(name).patch_embed(x[:, :3])[0]
    assert torch.equal(model.patch_embed(x)[0] - plain, (plain + generated) - plain)


@pytest.mark.parametrize('name', ['swin', 'mmdet_swin'])
@pytest.mark.parametrize('update', [None, 'block'])
def test_prompts_of_pyramids(name, update):
    model, x = tuned(name, prompt_update=update), image(name)
    inputs, _, prompts = record(model, x)
    stages = [*find_transformers(model)[0].blocks.values()]
    assert len(stages) == len(inputs) > len(set(stages))
    for index, stage in enumerate(stages):
        first = stages.index(stage)
        source = index if update == 'block' else first
        generated = generated_prompts(model, x)
        expected = inputs[source] if source else generated
        assert torch.equal(prompts[2 * index], expected)
        assert torch.equal(prompts[2 * index + 1], expected)


@pytest.mark.parametrize('name', ['vit', 'eva02', 'beit'])
def test_the_class_token_passes_by(name):
    model, x = tuned(name), image(name)
    for key, parameter in model.named_parameters():
        if key.endswith(('attn.proj.weight', 'attn.proj.bias')):
            nn.init.zeros_(parameter)
        if 'ffn.layers.1' in key or 'mlp.w3' in key or '.mlp.fc2' in key:
            nn.init.zeros_(parameter)
    inputs, results, _ = record(model, x)
    for tokens, out in zip(inputs, results, strict=True):
        assert torch.equal(out[:, 0], tokens[:, 0])
        assert not torch.equal(out[:, 1:], tokens[:, 1:])


def test_both_updates_are_where_the_paper_has_them():
    """Block of a ViT, recomputed from its parts."""
    model, x = tuned('vit'), image('vit')
    inputs, results, prompts = record(model, x)
    for block, tokens, out, prompt in zip(
        blocks_of(model), inputs, results, prompts[::2], strict=True
    ):
        first, second = block.adapters['ir'].steps

        def with_update(z, step, prompt=prompt):
            patches = z[:, 1:] + step.tokens(z[:, 1:], (4, 6)) + step.prompt(prompt)
            return torch.cat([z[:, :1], patches], 1)

        with torch.no_grad():
            z = with_update(tokens + block.attn(block.ln1(tokens)), first)
            z = with_update(block.ffn(block.ln2(z), identity=z), second)
        assert (z - out).norm() <= 1e-5 * out.norm()


@pytest.mark.parametrize('name', CONFIGS)
def test_frozen_parts_stay_and_all_adapters_train(name):
    model, x = tuned(name), image(name)
    before = copy.deepcopy(model.state_dict())
    model.train()
    sum(out.square().mean() for out in model(x)).backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ('.adapters.ir.' in f'.{key}'), key
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor='CompleteOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=1e-2, weight_decay=0.0),
        ),
    )
    wrapper.step()
    for key, value in model.state_dict().items():
        own = '.adapters.ir.' in f'.{key}' or '.rope.' in f'.{key}'  # follow the image
        assert own or torch.equal(value, before[key]), key


@pytest.mark.parametrize('name', ['clip', 'eva02', 'swin', 'vitdet'])
def test_files_and_switches(name, tmp_path):
    model, plain, x = tuned(name), network(name), image(name)
    model.train()
    model(x)  # moves the statistics of the batch norms
    model.eval()
    save_adapter(model, tmp_path / 'adapter.pth')
    other = network(name)
    load_adapter(other, tmp_path / 'adapter.pth')
    other.eval()
    assert equal(outputs(other, x), outputs(model, x))
    switch_adapter_(other, 'ir', False)
    assert equal(outputs(other, x), outputs(plain, x[:, :3]))
    assert equal(outputs(other, x[:, :3]), outputs(plain, x[:, :3]))
    switch_adapter_(other, 'ir', True)
    assert equal(outputs(other, x), outputs(model, x))
    unload_adapter(other, 'ir')
    assert equal(outputs(other, x[:, :3]), outputs(plain, x[:, :3]))
    for module, before in zip(other.modules(), plain.modules(), strict=True):
        assert type(module) is type(before)
        assert vars(module).keys() - {'_mmir'} == vars(before).keys()


@pytest.mark.parametrize('name', ['vit', 'swin', 'mmdet_swin'])
def test_checkpointing_of_the_host_gives_the_same_gradients(name):
    gradients = []
    for recompute in (False, True):
        model, x = tuned(name), image(name)
        model.train()
        for module in model.modules():
            if isinstance(module, PromptedBlock) or hasattr(module, 'with_cp'):
                module.with_cp = recompute
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        statistics = {k: v.clone() for k, v in model.named_buffers() if 'running' in k}
        sum(out.square().mean() for out in model(x)).backward()
        gradients.append({k: p.grad for k, p in model.named_parameters()})
        moved = {k: v for k, v in model.named_buffers() if 'running' in k}
        gradients[-1] |= {k: v - statistics[k] for k, v in moved.items()}
    for key, expected in gradients[0].items():
        if expected is not None:
            error = (gradients[1][key] - expected).norm()
            assert error <= 1e-4 * expected.norm() + 1e-9, key


def test_statistics_move_once_in_a_step():
    """Adapters are computed a second time in the backward pass."""
    model, x = tuned('vit'), image('vit')
    model.train()
    norm = blocks_of(model)[0].adapters['ir'].steps[0].tokens.enhance.norm
    sum(out.square().mean() for out in model(x)).backward()
    assert norm.num_batches_tracked == 1
    moved = norm.running_mean.clone()
    model.train()
    with torch.no_grad():
        model(x)
    assert norm.num_batches_tracked == 2
    assert not torch.equal(norm.running_mean, moved)


def test_frozen_part_in_evaluation_mode():
    cfg = dict(CONFIGS['vit'], drop_path_rate=0.5, drop_rate=0.5)
    for frozen_eval in (False, True):
        network('vit')  # imports the host
        model = MODELS.build(copy.deepcopy(cfg))
        adapt_(model, IVTuning(**SMALL, frozen_eval=frozen_eval), trainable=[])
        model.train()
        block = blocks_of(model)[-1]
        assert block.adapters.training
        assert block.attn.training != frozen_eval
        assert block.ffn.training != frozen_eval
        model.eval()
        assert not block.adapters.training


@pytest.mark.parametrize('norm', [dict(type='GN', num_groups=4), dict(type='SyncBN')])
def test_norm_of_the_enhancer(norm):
    model = tuned('vit', norm_cfg=norm)
    kind = nn.GroupNorm if norm['type'] == 'GN' else nn.SyncBatchNorm
    enhance = blocks_of(model)[0].adapters['ir'].steps[0].tokens.enhance
    assert isinstance(enhance.norm, kind)


def test_one_infrared_channel_is_three_equal_ones():
    model, x = tuned('vit'), image('vit', channels=4)
    three = torch.cat([x, x[:, 3:], x[:, 3:]], 1)
    assert equal(outputs(model, x), outputs(model, three))


def large(cfg: dict, **options) -> tuple[int, int]:
    """Trainable and all parameters of a large backbone, without memory."""
    network('vit')  # imports the host
    with torch.device('meta'):
        model = MODELS.build(cfg)
        report = adapt_(model, IVTuning(**options), trainable=[])
    return sum(report.trainable.values()), report.total


EVA02_L = dict(type='mmpretrain.ViTEVA02', arch='l', patch_size=16, sub_ln=True)
SHARED = dict(qkv_bias=True, final_norm=False, out_type='featmap')


@pytest.mark.parametrize(
    ('size', 'options', 'expected'),
    [
        (384, {}, 8_899_652),
        (512, {}, 8_899_652),
        (512, dict(variant='mp'), 5_866_436),
        (512, dict(variant='mp', shared=False), 10_917_572),
    ],
)
def test_counts_of_eva02_large(size, options, expected):
    trainable, total = large(EVA02_L | SHARED | dict(img_size=size), **options)
    assert trainable == expected
    patches = (size // 16) ** 2
    # the host has a bias of the keys, too, which the original lacks
    original = 303_778_752 + 1024 * (patches - 24**2)
    assert total - trainable == original + 24 * 1024


def test_counts_of_vit_large():
    cfg = dict(type='mmpretrain.VisionTransformer', arch='l', patch_size=16)
    trainable, total = large(cfg | dict(img_size=512, final_norm=False))
    assert trainable == 8_899_652
    assert total - trainable == 304_147_456


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({}, 6_062_788),
        (dict(variant='mp'), 3_780_292),
        (dict(variant='mp', shared=False), 7_545_412),
    ],
)
def test_counts_of_swin_large(monkeypatch, options, expected):
    # the host reads numbers of it, which tensors without memory do not have
    monkeypatch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))
    window = dict(block_cfgs=dict(window_size=12))
    cfg = dict(type='mmpretrain.SwinTransformer', arch='l', img_size=384)
    trainable, total = large(cfg | dict(stage_cfgs=window), **options)
    assert trainable == expected
    assert total - trainable == 195_198_516


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(variant='v5'), "variant 'v5'"),
        (dict(rank=2), 'rank 2 is not an integer of 4 or more'),
        (dict(prompt_rank=4.0), r'prompt_rank 4\.0 is not'),
        (dict(prompt_update='never'), "prompt_update 'never'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        IVTuning(**options)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match='4 or 6 channels, not 3: use a paired'):
        tuned('vit')(image('vit', channels=3))
    with pytest.raises(ValueError, match='4 or 6 channels, not 5'):
        tuned('swin')(image('swin', channels=5))


def test_models_without_a_transformer_are_refused():
    with pytest.raises(ValueError, match='Sequential has no vision transformer'):
        adapt_(nn.Sequential(nn.Conv2d(3, 4, 3)), IVTuning())
    two = nn.ModuleDict(dict(rgb=network('vit'), ir=network('swin')))
    with pytest.raises(ValueError, match=r'several vision transformers \(rgb, ir\)'):
        adapt_(two, IVTuning())


def test_post_norm_blocks_are_refused():
    network('vit')
    arch = dict(embed_dims=32, depths=[1, 1, 1, 1], num_heads=[2] * 4)
    arch['extra_norm_every_n_blocks'] = 0
    cfg = dict(type='mmpretrain.SwinTransformerV2', arch=arch, img_size=64)
    model = MODELS.build(cfg | dict(window_size=4))
    with pytest.raises(ValueError, match='no vision transformer of a known form'):
        adapt_(model, IVTuning(), trainable=[])


def test_adapting_twice_is_refused():
    model, x = tuned('vit'), image('vit')
    expected = outputs(model, x)
    for name in ('ir', 'night'):
        with pytest.raises(ValueError, match="there is an adapter 'ir' already"):
            adapt_(model, IVTuning(**SMALL), name, trainable=[])
    assert equal(outputs(model, x), expected)


def test_a_file_of_another_backbone_is_refused():
    adapter = adapter_state(tuned('vit'))
    model = network('eva02')
    keys = list(model.state_dict())
    with pytest.raises(ValueError, match='another model'):
        load_adapter_state(model, adapter)
    assert list(model.state_dict()) == keys


def test_a_plain_checkpoint_loads_before_and_after():
    plain = network('swin')
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.1)
    before = copy.deepcopy(plain)
    torch.manual_seed(1)
    adapt_(before, IVTuning(**SMALL), trainable=[])
    after = tuned('swin')
    found = after.load_state_dict(plain.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert all('.adapters.ir.' in key for key in found.missing_keys)
    before.eval()
    assert equal(outputs(before, image()), outputs(after, image()))


def test_a_block_that_cannot_be_adapted_is_refused_by_name():
    model = network('vit')
    model.layers[1].forward = model.layers[1].forward  # replaced, as compilers do
    keys = list(model.state_dict())
    with pytest.raises(ValueError, match=r'layers\.1: .*its forward was replaced'):
        adapt_(model, IVTuning(**SMALL), trainable=[])
    assert list(model.state_dict()) == keys


TIMM = {
    'vit_tiny_patch16_224': dict(reg_tokens=2, dynamic_img_size=True),
    'eva02_tiny_patch14_224': dict(patch_size=16, dynamic_img_size=True),
    'beit_base_patch16_224': dict(embed_dim=48, num_heads=3),
    'swin_tiny_patch4_window7_224': dict(
        window_size=4, depths=(2, 2), num_heads=(3, 6), embed_dim=24
    ),
}


def timm_model(name: str, **options) -> nn.Module:
    pytest.importorskip('timm')
    network('vit')  # imports the host
    depth = {} if 'swin' in name else dict(depth=2)
    cfg = dict(type='mmpretrain.TIMMBackbone', model_name=name, img_size=64)
    torch.manual_seed(0)
    model = MODELS.build(cfg | depth | options)
    model.eval()
    return model.requires_grad_(False)


@pytest.mark.parametrize('name', TIMM)
def test_backbones_of_timm(name):
    width = 96 if 'dynamic_img_size' in TIMM[name] else 64
    x = torch.randn(2, 6, 64, width, generator=torch.Generator().manual_seed(3))
    plain = timm_model(name, **TIMM[name])
    neutral, model = copy.deepcopy(plain), copy.deepcopy(plain)
    adapt_(neutral, IVTuning(**SMALL, zero_init=True), trainable=[])
    neutral.eval()
    assert equal(outputs(neutral, x), outputs(plain, x[:, :3]))
    adapt_(model, IVTuning(**SMALL), trainable=[])
    model.train()
    sum(out.square().mean() for out in model(x)).backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ('.adapters.ir.' in key), key


def test_padded_images_of_timm_have_a_padded_grid():
    options = dict(dynamic_img_size=True, dynamic_img_pad=True)
    model = timm_model('vit_tiny_patch16_224', **options)
    adapt_(model, IVTuning(**SMALL), trainable=[])
    model.eval()
    outputs(model, torch.randn(1, 6, 64, 70))
    assert model.timm_model.patch_embed.board.grid == (4, 5)
