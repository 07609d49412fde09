"""The soak by itself: prints its table; the exit code is 1 where anything was lost, came twice, or was left behind.

python -m tests.soak --seconds 1800 --seed 7
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from .report import Report
from .soak import soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long things are broken (default: 1800)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of faults and texts")
    parser.add_argument("--persistence", action="store_true", help="Redis keeps everything on disk (AOF)")
    parser.add_argument("--keep", action="store_true", help="keep the records also where all is well")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stagecast-soak-"))
    print(f"seed {options.seed}, records in {folder}", flush=True)
    report = asyncio.run(_soak(options.seconds, options.seed, folder, persistence=options.persistence))
    (folder / "report.txt").write_text(f"{report}\n", encoding="utf-8")
    print(report, flush=True)
    if report.is_good and not options.keep:
        shutil.rmtree(folder)
    return 0 if report.is_good else 1


async def _soak(seconds: float, seed: int, folder: Path, *, persistence: bool) -> Report:
    """The soak, which ends what it has started also where it is told to stop."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    return await soak(seconds, seed, folder, persistence=persistence)


if __name__ == "__main__":
    sys.exit(main())
