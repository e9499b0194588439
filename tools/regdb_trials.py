"""Train and test a config on the ten trials of RegDB, and average the results.

    python tools/regdb_trials.py configs/tmpa/tmpa_r50_regdb.py
    python tools/regdb_trials.py configs/agw/agw_r50_regdb.py --demo --trials 1 2

Each trial has a folder below `--out`. Finished trials are skipped and interrupted ones
resume, so the command can be repeated. A checkpoint of another trial is refused. Writes
`trials.json` with mean and standard deviation over the trials.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmir.cli import cli
from mmir.cli.resume import last_checkpoint
from mmir.cli.stages import StageError, tools_folder, train_stage
from mmir.engine.training_split import training_split
from mmir.utils.checkpoint import load_checkpoint
from mmir.utils.errors import UserError
from mmir.utils.files import read_json, write_json

sys.path.insert(0, str(Path(__file__).resolve().parent / 'analysis_tools'))
from reid_trials import read_run, summarize, table

RESULT = 'result.json'
TRIALS = range(1, 11)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('config', help=cli.CONFIG_HELP)
    add('--trials', nargs='+', type=int, choices=TRIALS, default=[*TRIALS])
    add('--out', type=Path, help='folder; default: work_dirs/<config>_trials')
    add('--demo', action='store_true', help='small network on synthetic people')
    add('--cfg-options', nargs='+', default=[], help='KEY=VALUE ..., for all trials')
    return parser.parse_args(arguments)


def require_trials(cfg: Config, config: str) -> None:
    """Refuse configs of other datasets.

    Raises:
        UserError: Training or test images are not those of RegDB.
    """
    for key in ('train_dataloader', 'test_dataloader'):
        kind = cfg.get(key, {}).get('dataset', {}).get('type')
        if str(kind).rpartition('.')[2] != 'RegDB':
            raise UserError(
                f'{config}: {key}.dataset is {kind}, but only RegDB has trials; use '
                'tools/train.py and tools/test.py'
            )


def require_checkpoint(path: Path, trial: int) -> None:
    """Refuse the checkpoint of another trial.

    Raises:
        UserError: It was trained on another trial, or does not name one.
    """
    meta = load_checkpoint(path, map_location='meta').get('meta') or {}
    found = training_split(meta.get('dataset_meta'))
    if found is None or not found.startswith(f'RegDB trial {trial} '):
        raise UserError(
            f'{path} was trained on {found or "data that it does not name"}, not on '
            f'trial {trial} of RegDB; remove the folder, or choose another --out'
        )


def require_result(args: argparse.Namespace, path: Path) -> None:
    """Refuse the result of another config, or of the demo.

    Raises:
        UserError: It says that it was made by something else.
    """
    made, wanted = read_json(path), dict(config=args.config, demo=args.demo)
    found = {key: made.get(key, value) for key, value in wanted.items()}
    if found != wanted:
        raise UserError(f'{path} is a result of {found}, not of {wanted}; choose '
                        'another --out')  # fmt: skip


def run_trial(args: argparse.Namespace, trial: int, folder: Path) -> None:
    """Train and test the model of a trial, unless its result is there.

    Raises:
        StageError: Training or test failed.
        UserError: The folder holds the checkpoint of another trial.
    """
    before = last_checkpoint(folder)
    if before is not None:
        require_checkpoint(before, trial)
    if (folder / RESULT).is_file():
        require_result(args, folder / RESULT)
        return
    options = ['--cfg-options', f'trial={trial}', *args.cfg_options]
    options += ['--demo'] if args.demo else []
    train_stage([args.config, '--resume', *options], folder, f'trial {trial}')
    trained = last_checkpoint(folder)
    if trained is None:
        raise StageError(f'{folder}: training left no checkpoint, see output.log')
    require_checkpoint(trained, trial)
    script = str(tools_folder() / 'test.py')
    command = [sys.executable, script, args.config, str(trained), *options]
    command += ['--work-dir', str(folder / 'test'), '--out', str(folder / RESULT)]
    log = folder / 'test.log'
    with log.open('w') as sink:
        code = subprocess.run(command, stdout=sink, stderr=sink, check=False).returncode
    if code:
        end = '\n'.join(log.read_text().splitlines()[-15:])
        raise StageError(f'test of trial {trial}: exit code {code}, see {log}\n{end}')


def main(arguments: Sequence[str] | None = None) -> dict[str, dict]:
    """Run the trials, print the table; return the summary."""
    args = parse(arguments)
    require_trials(cli.load_config(args.config), args.config)
    stem = Path(args.config.rpartition('::')[2]).stem + '_demo' * args.demo
    out = args.out or Path(f'work_dirs/{stem}_trials')
    folders = {trial: out / f'trial_{trial}' for trial in dict.fromkeys(args.trials)}
    for trial, folder in folders.items():
        run_trial(args, trial, folder)
    runs = [folder / RESULT for folder in folders.values()]
    summary = summarize([read_run(run) for run in runs])
    if args.demo:
        print(cli.BANNER)
    print(table(summary, len(runs)))
    if len(runs) < len(TRIALS):
        print(f'{len(runs)} of the {len(TRIALS)} trials; papers report the mean of all')
    content = dict(config=args.config, demo=args.demo, trials=[*folders], **summary)
    write_json(content, out / 'trials.json', indent=1)
    return summary


if __name__ == '__main__':
    sys.exit(cli.run(main))
