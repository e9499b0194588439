"""`PromptBoard`: what the layers of one backbone tell each other in a forward pass."""

from collections.abc import Hashable
from typing import Any

from torch import Tensor


class PromptBoard:
    """Prompt tokens on their way through a backbone, and the grid of its patches.

    One object is shared by the layers of a backbone. Its content is that of the latest
    forward pass; copies and pickles are empty.

    Attributes:
        prompts: Tokens (N, L, D), by a key that the method chooses.
        grid: Rows and columns of the patches.
    """

    def __init__(self) -> None:
        self.prompts: dict[Hashable, Tensor] = {}
        self.grid: tuple[int, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {'prompts': {}, 'grid': None}
