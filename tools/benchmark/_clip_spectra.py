"""How many directions the features of a trained network use, block by block."""

import torch
from mmengine.runner import Runner, autocast
from torch.nn.functional import layer_norm

from mmir.evaluation import BlockFeatures, FeatureSpectrum, effective_rank

BATCHES = 4  # of test images
CHANNELS = dict(rgb=3, ir=3)


@torch.no_grad()
def effective_ranks(runner: Runner) -> list[float]:
    """Effective rank of the normalized tokens after each block, on test images."""
    model, found = runner.model, {}
    model.eval()
    with BlockFeatures(model.backbone, CHANNELS) as features:
        for index, data in enumerate(runner.val_dataloader):
            if index == BATCHES:
                break
            inputs = model.data_preprocessor(data, False)['inputs']
            with autocast(enabled=runner.val_loop.fp16):
                model.extract_feat(inputs)
            for name, x in features.blocks.items():
                tokens = x.float().flatten(2).transpose(1, 2)
                # what the next block reads; huge norms of a few tokens do not decide
                normalized = layer_norm(tokens, tokens.shape[-1:])
                found.setdefault(name, FeatureSpectrum()).update(normalized)
    return [effective_rank(f.spectrum()) for f in found.values()]
