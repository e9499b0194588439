"""Base test loop that runs a test set once per variant of its images."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.runner import TestLoop

from mmir.structures import MODALITIES, PairError

from .tables import numbers, save

Variant = Callable[[dict], dict]
"""Takes a batch of the data loader, returns the batch the model sees."""


class VariantTestLoop(TestLoop):
    """Base class of test loops that run the test set once per variant of its images.

    Batches are changed between the data loader and the model, so the pipeline is that
    of a plain test. Each pass is evaluated separately by the evaluator of the config;
    its metrics are prefixed with the name of the variant (`ir/coco/bbox_mAP`).
    Iteration hooks see every pass; epoch hooks see one epoch with all metrics. The last
    pass is the plain test, so files that metrics or hooks write under a fixed name
    (predictions, pictures) end up as after a plain test.

    After each pass, the main process writes `<stem>.md` and `<stem>.json` to the log
    folder of the run, so finished passes survive an interruption.

    Args:
        *args (Any): runner, dataloader and evaluator of mmengine's `TestLoop`.
        metrics (Sequence[str], optional): Metrics to show in the tables, named as in a
            plain test. Default: all numeric ones. The JSON file always has all.
        **kwargs (Any): Other arguments of mmengine's `TestLoop`.

    Raises:
        PairError: The test set yields no paired samples.
    """

    stem = 'variants'
    """Name of the result files, without suffix."""

    def __init__(
        self, *args: Any, metrics: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.metrics = metrics if metrics is None else tuple(metrics)

    @abstractmethod
    def variants(self, meta: Mapping) -> dict[str, Variant]:
        """Define the variants to run.

        Args:
            meta (Mapping): Metainfo of the first sample.

        Returns:
            dict[str, Variant]: Name -> variant in running order; the plain test last.
        """

    @abstractmethod
    def tables(self, results: Mapping[str, Mapping], metrics: Sequence[str]) -> str:
        """Format the results so far.

        Args:
            results (Mapping[str, Mapping]): Variant -> metric -> number or None.
            metrics (Sequence[str]): Metrics to show.

        Returns:
            str: Tables in Markdown.
        """

    def draw(self, results: Mapping[str, Mapping], metrics: Sequence[str]) -> None:
        """Draw the results once, in the main process; arguments as in `tables`."""

    def settings(self) -> dict[str, Any]:
        """dict[str, Any]: Further content of the JSON file, in plain types."""
        return {}

    def run(self) -> dict:
        """Run all passes.

        Returns:
            dict: `<variant>/<metric>` -> value.
        """
        variants = self.variants(self._first_meta())
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        results: dict[str, dict] = {}
        for number, (name, variant) in enumerate(variants.items(), 1):
            self.runner.logger.info(f'test pass {number} of {len(variants)}: {name}')
            results[name] = self._one_pass(variant)
            text = self._save(results, last=number == len(variants))
            if number == 1:
                self._warn_of_unknown(results[name])
        merged = {
            f'{name}/{key}': value
            for name, metrics in results.items()
            for key, value in metrics.items()
        }
        self.runner.call_hook('after_test_epoch', metrics=merged)
        self.runner.logger.info(f'{self.path_stem}.md:\n{text}')
        self.runner.call_hook('after_test')
        return merged

    @property
    def path_stem(self) -> Path:
        """Path: The result files, without suffix."""
        return Path(self.runner.log_dir) / self.stem

    def _first_meta(self) -> Mapping:
        """Get the metainfo of the first sample, which names the modalities."""
        sample = self.dataloader.dataset[0]['data_samples']
        while isinstance(sample, list | tuple):  # views of test-time augmentation
            sample = sample[0]
        meta = getattr(sample, 'metainfo', {})
        if MODALITIES not in meta:
            raise PairError(
                f'{type(self).__name__}: the test set yields no paired samples; its '
                'pipeline must start with mmir.LoadPairedImages and end with '
                f'mmir.PackPairedInputs. The metainfo has {sorted(meta)}'
            )
        return meta

    def _one_pass(self, variant: Variant) -> dict:
        """Test and evaluate one variant."""
        self.test_loss.clear()
        for idx, batch in enumerate(self.dataloader):
            self.run_iter(idx, variant(batch))
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        losses = {name: values.mean() for name, values in self.test_loss.items()}
        if losses:  # some models return them; reported as in mmengine's loop
            total = sum(value for name, value in losses.items() if 'loss' in name)
            metrics |= losses | {'test_loss': total}
        return metrics

    def _save(self, results: Mapping[str, Mapping], last: bool) -> str:
        """Write the files; return the tables."""
        plain = {name: numbers(metrics) for name, metrics in results.items()}
        shown = self.metrics or tuple(
            dict.fromkeys(k for m in plain.values() for k in m)
        )
        text = self.tables(plain, shown)
        if is_main_process():
            save(self.path_stem, text, self.settings() | {'results': plain})
            if last:
                self.draw(plain, shown)
        return text

    def _warn_of_unknown(self, metrics: Mapping) -> None:
        """Warn early about requested metrics that are not computed.

        Not an error: the hosts' metrics omit names if a model predicts nothing.
        """
        unknown = [name for name in self.metrics or () if name not in metrics]
        if unknown:
            self.runner.logger.warning(
                f'{type(self).__name__}: the first pass has no metrics {unknown} for '
                f'the tables; it has {sorted(metrics)}'
            )
