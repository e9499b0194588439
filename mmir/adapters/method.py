"""What a method of adaptation is: the values of `adapt.type`."""

from typing import ClassVar

from torch import nn


class Method:
    """A way of adapting a model to another camera.

    Subclasses take their own options in `__init__` and override `insert_`, or only the
    class attributes. Registered in `mmengine.registry.MODELS`, `MyMethod` is found by
    `adapt=dict(type='MyMethod', ...)`; one from outside of mmir needs its module in
    `custom_imports` of the config.

    Attributes:
        trains: Regular expressions searched in the names of parameters that train
            beside the adapters, whatever the config says.
        norm: Policy for normalization layers unless the config says another, see
            `freeze_`. Batch norms that train undo what an adapter does to the scale
            and mean of each channel before them.
        freezes: Whether the rest of the model is frozen.
        stage: Whether what it does is a stage with an adapter file; if it freezes
            nothing, the file holds the whole model.
    """

    trains: ClassVar[tuple[str, ...]] = ()
    norm: ClassVar[str] = 'all'
    freezes: bool = True
    stage: bool = True

    def insert_(self, model: nn.Module, name: str) -> dict[str, str]:
        """Put the adapters into a model, in place; by default there are none.

        `insert_adapters_` does this for adapter layers that stand on plain ones.
        Nothing has to be frozen here.

        Args:
            model: The model, not wrapped.
            name: Name of the adapters, such as `ir`.

        Returns:
            What to tell the user beside the counts: lines of text by a title.

        Raises:
            ValueError: Nothing to adapt (in these words), adapters of this name are
                there already (naming it), or a wrong option. The model is unchanged.
        """
        return {}

    def finish_(self, model: nn.Module) -> None:
        """Do what needs the model frozen and recorded already; by default nothing."""
