"""Run a test set several times, each time with other images."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.runner import TestLoop

from mmir.structures import MODALITIES, PairError

from .tables import numbers, save

Variant = Callable[[dict], dict]
"""Makes the batch the model sees of a batch of the data loader."""


class VariantTestLoop(TestLoop):
    """Base of test loops that run the test set once for each variant of its images.

    Batches are changed between the data loader and the model, so the pipeline is that
    of a plain test. Each pass is evaluated for itself by the evaluator of the config;
    its metrics get the variant's name as a prefix (`ir/coco/bbox_mAP`). Hooks of
    iterations see every pass, those of the epoch see one epoch with all metrics.
    The last pass is the plain test: files that metrics or hooks write under a fixed
    name (predictions, pictures) are left as a plain test leaves them.

    After each pass the main process writes `<stem>.md` and `<stem>.json` into the log
    folder of the run, so that what is done survives an interruption.

    Args:
        *args (Any): runner, dataloader and evaluator of mmengine's `TestLoop`.
        metrics (Sequence[str], optional): Which metrics the tables show, by the names
            a plain test gives them. Default: all that are numbers. The JSON file has
            all in any case.
        **kwargs (Any): Other arguments of mmengine's `TestLoop`.

    Raises:
        PairError: The test set yields no paired samples.
    """

    stem = 'variants'
    """Name of the files, without suffix."""

    def __init__(
        self, *args: Any, metrics: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.metrics = metrics if metrics is None else tuple(metrics)

    @abstractmethod
    def variants(self, meta: Mapping) -> dict[str, Variant]:
        """Say what to run.

        Args:
            meta (Mapping): Metadata of the first sample.

        Returns:
            dict[str, Variant]: In the order to run them; the plain test last.
        """

    @abstractmethod
    def tables(self, results: Mapping[str, Mapping], metrics: Sequence[str]) -> str:
        """Show the results so far.

        Args:
            results (Mapping[str, Mapping]): Variant -> metric -> number or None.
            metrics (Sequence[str]): Metrics to show.

        Returns:
            str: Markdown.
        """

    def draw(self, results: Mapping[str, Mapping], metrics: Sequence[str]) -> None:
        """Draw the results, once, in the main process; takes what `tables` does."""

    def settings(self) -> dict[str, Any]:
        """dict[str, Any]: What else the JSON file holds, in plain types."""
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
        """Path: The files, without suffix."""
        return Path(self.runner.log_dir) / self.stem

    def _first_meta(self) -> Mapping:
        """Metadata of the first sample, which names the modalities."""
        sample = self.dataloader.dataset[0]['data_samples']
        while isinstance(sample, list | tuple):  # views of test-time augmentation
            sample = sample[0]
        meta = getattr(sample, 'metainfo', {})
        if MODALITIES not in meta:
            raise PairError(
                f'{type(self).__name__}: the test set yields no paired samples; its '
                'pipeline must start with mmir.LoadPairedImages and end with '
                f'mmir.PackPairedInputs. The metadata have {sorted(meta)}'
            )
        return meta

    def _one_pass(self, variant: Variant) -> dict:
        """Test and evaluate one variant."""
        self.test_loss.clear()
        for idx, batch in enumerate(self.dataloader):
            self.run_iter(idx, variant(batch))
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        losses = {name: values.mean() for name, values in self.test_loss.items()}
        if losses:  # of models that return some, reported as by mmengine's loop
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
        """Tell early of metrics to show that nobody computes.

        No error: metrics of hosts leave names out when a model predicts nothing.
        """
        unknown = [name for name in self.metrics or () if name not in metrics]
        if unknown:
            self.runner.logger.warning(
                f'{type(self).__name__}: the first pass has no metrics {unknown} for '
                f'the tables, it has {sorted(metrics)}'
            )
