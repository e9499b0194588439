"""Interleaved timing, peak memory, time limits and a description of the machine."""

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

Clock = Callable[[], float]
Call = Callable[[], object]
NO_GPU = (
    'torch sees no CUDA GPU: nothing was measured. Run this where `python -c "import '
    'torch; print(torch.cuda.is_available())"` prints True'
)


def keep_memory() -> None:
    """Make this process keep freed memory (glibc).

    Otherwise some calls return memory to the system and pay for getting it back: the
    same convolution takes up to 20 % longer, depending on what ran before.
    """
    if sys.platform == 'linux' and hasattr(ctypes.CDLL(None), 'mallopt'):
        trim_threshold, mmap_max = -1, -4  # names of malloc.h
        ctypes.CDLL(None).mallopt(trim_threshold, 2**31 - 1)
        ctypes.CDLL(None).mallopt(mmap_max, 0)


def clock_for(device: str, threads: int) -> Clock:
    """Choose a clock, in seconds, for calls on a device.

    - CUDA: wall time after all kernels have finished.
    - One CPU thread: CPU time of this thread, which also runs the backward pass; little
      affected by other processes.
    - Several CPU threads: wall time.
    """
    if device == 'cuda':

        def synchronized() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()

        return synchronized
    return time.thread_time if threads == 1 else time.perf_counter


def take_turns(
    calls: Mapping[str, Call], rounds: int, clock: Clock, min_seconds: float = 0.01
) -> dict[str, list[float]]:
    """Time calls in turns, so that a drift of the machine affects all alike.

    Every call first runs twice, to warm up and to find out how often it must be
    repeated to last `min_seconds`. Each round starts with a different call.

    Returns:
        Name -> seconds per call, one value per round.
    """

    def measure(call: Call, repeat: int) -> float:
        start = clock()
        for _ in range(repeat):
            call()
        return (clock() - start) / repeat

    repeats, names = {}, list(calls)
    for name, call in calls.items():
        measure(call, 1)
        once = max(measure(call, 1), 1e-7)
        repeats[name] = min(1000, max(1, round(min_seconds / once)))
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        k = i % len(names)
        for name in names[k:] + names[:k]:
            times[name].append(measure(calls[name], repeats[name]))
    return times


def summarize(
    times: Mapping[str, list[float]], baseline: str
) -> dict[str, dict[str, list[float]]]:
    """Quartiles (lower, median, upper) of times and of their ratio to a baseline.

    Ratios are computed within a round, where conditions are the same.

    Returns:
        Name -> `ms` and `ratio`.
    """

    def quartiles(values: list[float] | np.ndarray) -> list[float]:
        return [float(q) for q in np.percentile(values, (25, 50, 75))]

    reference = np.asarray(times[baseline])
    return {
        name: dict(
            ms=[1e3 * q for q in quartiles(values)],
            ratio=quartiles(np.asarray(values) / reference),
        )
        for name, values in times.items()
    }


def peak_memory(call: Call, device: str) -> int:
    """Peak of allocated bytes during a call.

    Includes workspaces, saved activations and gradients of the call, but nothing
    allocated before it.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as run:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'trace.json'
        run.export_chrome_trace(str(path))
        events = json.loads(path.read_text())['traceEvents']
    changes = [
        (event['ts'], event['args']['Bytes'])
        for event in events
        if event['name'] == '[memory]'
    ]
    level = np.cumsum([0] + [size for _, size in sorted(changes, key=lambda c: c[0])])
    return int(level.max())


class Deadline:
    """Runs measurements until time is up; records those left out."""

    def __init__(self, seconds: float) -> None:
        self.end, self.left_out = time.monotonic() + seconds, []

    def run(
        self, name: str, measure: Callable[[], list[dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        """Measure, or record that there was not enough time or memory."""
        if time.monotonic() > self.end:
            self.left_out.append(f'{name}: out of time')
            return []
        try:
            return measure()
        except torch.OutOfMemoryError:
            self.left_out.append(f'{name}: out of memory')
            return []


def driver() -> str | None:
    """Version of the GPU driver, or None."""
    if not shutil.which('nvidia-smi'):
        return None
    query = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = answer.stdout.split()
    return lines[0] if answer.returncode == 0 and lines else None


def environment(device: str, **options: Any) -> dict[str, Any]:
    """Describe the machine and software a measurement depends on."""
    processor = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    if info.is_file():
        names = [s for s in info.read_text().splitlines() if s.startswith('model name')]
        processor = names[0].partition(':')[2].strip() if names else processor
    return dict(
        torch=torch.__version__,
        python=platform.python_version(),
        device=torch.cuda.get_device_name() if device == 'cuda' else processor,
        cores=os.cpu_count(),
        load=os.getloadavg()[0] if hasattr(os, 'getloadavg') else None,
        **options,
    )
