"""`Method`, the base class of the values of `adapt.type`."""

from typing import ClassVar

from torch import nn


class Method:
    """Method of adapting a model to another camera.

    Subclasses take their options in `__init__` and override `insert_`, or only the
    class attributes. Once registered in `mmengine.registry.MODELS`, `MyMethod` is
    selected by `adapt=dict(type='MyMethod', ...)`; for a method outside mmir, list its
    module in `custom_imports` of the config.

    Attributes:
        trains: Regular expressions; parameters whose names match one train in addition
            to the adapters, whatever the config says.
        norm: Default policy for normalization layers, see `freeze_`. Batch norms that
            train undo what an adapter does to the scale and mean of each channel before
            them.
        freezes: Whether the rest of the model is frozen.
        stage: Whether the result is saved as an adapter file. If nothing is frozen, the
            file holds the whole model.
    """

    trains: ClassVar[tuple[str, ...]] = ()
    norm: ClassVar[str] = 'all'
    freezes: bool = True
    stage: bool = True

    def insert_(self, model: nn.Module, name: str) -> dict[str, str]:
        """Insert the adapters into a model, in place. The default inserts none.

        `insert_adapters_` does this for adapter layers that replace plain layers.
        Do not freeze anything here.

        Args:
            model: The model, not wrapped.
            name: Name of the adapters, such as `ir`.

        Returns:
            Notes for the report, in addition to the counts: title -> text.

        Raises:
            ValueError: "nothing to adapt", adapters of this name exist already (the
                message gives the name), or an invalid option. The model is unchanged.
        """
        return {}

    def finish_(self, model: nn.Module) -> None:
        """Run what needs the model frozen and its stage recorded. Default: nothing."""
