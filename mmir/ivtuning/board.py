"""`PromptBoard`: what the layers of one backbone tell each other in a forward pass."""

from typing import Any

from torch import Tensor


class PromptBoard:
    """Prompt tokens of each stage, and the grid of the patches.

    One object is shared by the patch embedding and all blocks of a backbone. Its
    content is that of the latest forward pass; copies and pickles are empty.
    """

    def __init__(self) -> None:
        self.prompts: dict[int, Tensor] = {}
        self.grid: tuple[int, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {'prompts': {}, 'grid': None}
