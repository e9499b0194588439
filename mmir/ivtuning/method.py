"""`IVTuning`, the method."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from mmir.adapters import Method
from mmir.adapters.host_layer import insert_at_
from mmir.adapters.transformers import the_transformer

from .block import PromptedBlock
from .embedding import PromptedEmbedding
from .options import Main, Options, PromptUpdate, Variant


@MODELS.register_module()
class IVTuning(Method):
    """IV-tuning: RGB and infrared through one frozen vision transformer.

    An infrared patch embedding and a prompt generator turn both images into prompts,
    which are added to the visible tokens. In every block, adapters update the tokens
    after attention and after the MLP from the tokens and the block's prompts. IV-tuning
    (arXiv 2412.16654); the generator is called MP-alpha, the adapters MP-beta there.

    The input is RGB and infrared stacked along the channels, as a paired data
    preprocessor gives them. The rest of the model does not change: heads and necks see
    the features of the plain backbone's form. They train, if `trainable` says so.

    Args:
        variant: `'hybrid'`: the published modules (EMPG, HA, IPA). `'mp'`: the modules
            of the latest version of the paper, which are not published, reconstructed.
        rank: Rank of the adapters of the tokens.
        prompt_rank: Rank of the prompt generator and of the adapters of the prompts.
        shared: For `'mp'`: whether a block's two updates share their weights.
        prompt_update: `'block'`: the prompts of a block are its own input, except for
            the first block, which gets the generated prompts. `'stage'`: the blocks of
            a stage share the stage's input; in a ViT, which is one stage, all blocks
            get the generated prompts. Default, as published: by block in a ViT, by
            stage in Swin.
        norm_cfg: Normalization in the adapters. Default: batch norm. For batches of 1
            or 2 images per GPU take `dict(type='SyncBN')` or
            `dict(type='GN', num_groups=4)`.
        zero_init: Whether the model computes the same as the frozen backbone at first.
            The published code starts from random adapters.
        frozen_eval: Whether the frozen part stays in evaluation mode, without drop path
            and dropout. The published code keeps them active.
        main: Image whose tokens the frozen backbone computes; the other image only
            makes prompts. `'rgb'` as published; `'ir'` where infrared shows more.

    Raises:
        ValueError: Invalid option.
    """

    norm = 'frozen'

    def __init__(
        self,
        variant: Variant = 'hybrid',
        *,
        rank: int = 64,
        prompt_rank: int = 8,
        shared: bool = True,
        prompt_update: PromptUpdate | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        zero_init: bool = False,
        frozen_eval: bool = False,
        main: Main = 'rgb',
    ) -> None:
        norm_cfg = None if norm_cfg is None else dict(norm_cfg)
        self.options = Options(
            variant,
            rank,
            prompt_rank,
            shared,
            prompt_update,
            norm_cfg,
            zero_init,
            frozen_eval,
            main,
        )

    def insert_(self, model: nn.Module, name: str) -> dict[str, str]:
        """Adapt patch embedding and blocks of the only transformer; see `Method`."""
        found = the_transformer(model, 'IV-tuning')
        layers = dict.fromkeys(found.blocks, PromptedBlock)
        layers[found.embed] = PromptedEmbedding
        insert_at_(model, name, layers, **asdict(self.options))
        return {'backbone': f'{found.name or "the model"} ({found.family})'}
