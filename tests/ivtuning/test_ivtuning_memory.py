"""Memory of IV-tuning in training: what is saved, recomputed and held."""

import pytest
import torch
from torch import nn
from transformers import image, network

from mmir.adapters import adapt_
from mmir.ivtuning import IVTuning, PromptGenerator
from mmir.ivtuning.block import PromptedBlock


def tuned(name: str, variant: str = 'hybrid') -> nn.Module:
    """Adapted network in training mode."""
    model = network(name)
    torch.manual_seed(1)
    adapt_(model, IVTuning(variant, rank=8, prompt_rank=4), trainable=[])
    model.train()
    return model


def keep_everything(model: nn.Module) -> None:
    """Switch recomputing off, and what is random."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, PromptedBlock):
            module.adapters['ir'].training = False  # of the container alone
        if isinstance(module, PromptGenerator):
            module.training = False


@pytest.mark.parametrize('variant', ['hybrid', 'mp'])
@pytest.mark.parametrize('name', ['vit', 'eva02', 'beit', 'swin', 'mmdet_swin'])
def test_recomputing_changes_no_value(name, variant):
    found = []
    for keep in (True, False):
        model, x = tuned(name, variant=variant).double(), image(name).double()
        model.train()
        if keep:
            keep_everything(model)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        outs = list(model(x))
        sum(out.square().mean() for out in outs).backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        found.append([*outs, *gradients, *model.buffers()])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def kept(model: nn.Module, x: torch.Tensor) -> dict[int, int]:
    """Storages that autograd keeps, without parameters: address -> bytes."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes(), tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        model(x)
    return {place: size for place, (size, _) in seen.items()}


def test_a_block_keeps_one_tensor_more_than_a_frozen_one():
    """Tokens after attention and after the MLP; but not the input of the norm."""
    x, layers = image('vit'), 3
    plain, model = network('vit').requires_grad_(False), tuned('vit')
    plain.train()
    plain.pos_embed.requires_grad_(True)  # gradients pass through all blocks
    more = sum(kept(model, x).values()) - sum(kept(plain, x[:, :3]).values())
    tokens, patches = (4 * len(x) * n * 32 for n in (1 + 4 * 6, 4 * 6))
    statistics = 2 * 4 * len(x) * (1 + 4 * 6)  # of the norm
    # the embedding keeps the images, and the generator what it reads of both
    assert more == layers * (tokens - statistics) + 4 * x.numel() + 2 * patches


def test_recomputing_saves_memory():
    """Bytes that autograd keeps for a backbone, with and without recomputing."""
    model, x = tuned('vit'), image('vit')
    model.train()
    few = sum(kept(model, x).values())
    keep_everything(model)
    assert few < 0.7 * sum(kept(model, x).values())


@pytest.mark.parametrize('name', ['vit', 'swin'])
def test_checkpointing_of_two_images_before_the_backward_pass(name):
    """Each recomputation has the prompts of its own image."""
    found = []
    for recompute in (False, True):
        model, first = tuned(name).double(), image(name).double()
        model.train()
        for module in model.modules():
            if isinstance(module, PromptedBlock):
                module.with_cp = recompute
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        outs = [*model(first), *model(first.flip(3) + 1)]
        sum(out.square().mean() for out in outs).backward()
        found.append([p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('name', ['vit', 'swin'])
def test_no_prompts_are_held_between_steps(name):
    model, x = tuned(name), image(name)
    board = model.patch_embed.board
    model.train()
    sum(out.square().mean() for out in model(x)).backward()
    assert board.prompts == {}
    assert board.grid is not None
