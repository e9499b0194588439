"""Run training stages as subprocesses and read their logs."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from tqdm import tqdm

from mmir.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
_STEP = re.compile(
    r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].*? loss: ([\d.naif]+)'
)


class StageError(UserError, RuntimeError):
    """A stage failed; the message includes the end of its output."""


def tools_folder() -> Path:
    """Folder of `train.py` and `test.py`: the checkout's, else the packaged copy."""
    packaged = Path(__file__).resolve().parents[1] / '.mim' / 'tools'
    return ROOT / 'tools' if (ROOT / 'tools/train.py').is_file() else packaged


def train_stage(arguments: Sequence[str], work_dir: Path, title: str) -> float:
    """Run `tools/train.py` with a progress bar.

    Args:
        arguments (Sequence[str]): Arguments of the tool, without `--work-dir`.
        work_dir (Path): Folder of the run; the output is written to `output.log`.
        title (str): Label of the progress bar.

    Returns:
        float: Duration in seconds.

    Raises:
        StageError: The stage failed.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    log = work_dir / 'output.log'
    script = str(tools_folder() / 'train.py')
    command = [sys.executable, '-u', script, *arguments, '--work-dir', str(work_dir)]
    start = time.monotonic()
    with (
        log.open('w') as sink,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
        tqdm(desc=title, unit='epoch', bar_format='{l_bar}{bar}{r_bar}') as bar,
    ):
        for line in process.stdout or ():
            sink.write(line)
            _show(bar, line)
    if process.returncode:
        end = '\n'.join(log.read_text().splitlines()[-15:])
        raise StageError(f'{title}: exit code {process.returncode}, see {log}\n{end}')
    return time.monotonic() - start


def _show(bar: tqdm, line: str) -> None:
    """Advance the progress bar from a line of mmengine's log."""
    total = re.search(r'max_epochs=(\d+)', line)
    if total and bar.total is None:
        bar.total = int(total[1])
    step = _STEP.search(line)
    if step:
        done = int(step[1]) - 1 + int(step[2]) / int(step[3])
        bar.update(done - bar.n)
        bar.set_postfix(loss=step[4])


def read_scalars(work_dir: Path) -> list[dict]:
    """Return the values logged by the latest start of a run, in order."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'{work_dir} holds no log of a run')
    return [json.loads(line) for line in files[-1].read_text().splitlines()]


def curve(scalars: list[dict], key: str) -> tuple[list[float], list[float]]:
    """Return the steps and values of `key` from logged values."""
    rows = [row for row in scalars if key in row]
    return [row['step'] for row in rows], [row[key] for row in rows]


def latest_checkpoint(work_dir: Path) -> Path:
    """Return the newest checkpoint of a run."""
    return Path((work_dir / 'last_checkpoint').read_text().strip())


def count_parameters(config: Config) -> tuple[int, int]:
    """Build the model of a config; return its trainable and total parameter counts."""
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope(config.get('default_scope', 'mmengine'))
    model = MODELS.build(config.model)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
