"""Hook that refuses a model trained on another split than it is tested on."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmir.utils.errors import UserError

KEY = 'training_split'
"""Key of the metainfo of a dataset that names the split a model is to be trained on."""


@HOOKS.register_module()
class TrainingSplitHook(Hook):
    """Compare the training split of a checkpoint with that of the dataset at hand.

    For datasets with several splits into train and test, such as
    :class:`mmir.reid.RegDB`, whose test identities are training identities of other
    trials. Their metainfo has `training_split`; mmengine writes the metainfo of the
    training dataset to checkpoints. Training, resuming, validation and tests stop if
    the two differ. Checkpoints that name no split pass with a warning in a test.
    """

    def __init__(self) -> None:
        self.trained: str | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remember the split that the weights were trained on.

        Args:
            runner (Runner): The runner.
            checkpoint (dict): Checkpoint of mmengine, with `meta` if it is one.
        """
        self.trained = training_split(
            (checkpoint.get('meta') or {}).get('dataset_meta')
        )

    def before_train(self, runner: Runner) -> None:
        """Check the weights that training starts from.

        Args:
            runner (Runner): The runner.

        Raises:
            UserError: They were trained on another split.
        """
        own = _split_of(runner.train_loop)
        require_split(own, self.trained)
        self.trained = own

    def before_val(self, runner: Runner) -> None:
        """Check the weights that are validated.

        Args:
            runner (Runner): The runner.

        Raises:
            UserError: They were trained on another split.
        """
        require_split(_split_of(runner.val_loop), self.trained)

    def before_test(self, runner: Runner) -> None:
        """Check the weights that are tested.

        Args:
            runner (Runner): The runner.

        Raises:
            UserError: They were trained on another split.
        """
        own = _split_of(runner.test_loop)
        require_split(own, self.trained)
        if own and not self.trained:
            runner.logger.warning(
                f'the weights do not say what they were trained on; they must come '
                f'from {own}'
            )


def require_split(own: str | None, trained: str | None) -> None:
    """Refuse weights of another split.

    Args:
        own (str, optional): Training split of the dataset at hand, if it names one.
        trained (str, optional): Split that the weights were trained on, if they do.

    Raises:
        UserError: Both are known and differ.
    """
    if own and trained and own != trained:
        raise UserError(
            f'the weights were trained on {trained}, but the dataset is that of {own}: '
            'people to be found would be known from training. Use the checkpoint of '
            'this split, or --cfg-options trial=N'
        )


def training_split(metainfo: Any) -> str | None:
    """Training split that a metainfo names.

    Args:
        metainfo (Any): Metainfo of a dataset, or of a checkpoint; anything else has
            none.

    Returns:
        str, optional: The name.
    """
    found = metainfo.get(KEY) if isinstance(metainfo, dict) else None
    return found if isinstance(found, str) else None


def _split_of(loop: Any) -> str | None:
    """Training split of the dataset of a loop."""
    dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
    return training_split(getattr(dataset, 'metainfo', None))
