"""What the kernel knows of processes: their memory and open files, sampled over the soak. Linux only."""

import os
import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from attrs import Factory, define

MEGABYTE = 1 << 20
GROWTH, GROWTH_BYTES = 1.2, 10 * MEGABYTE
"""What the last third may need more than the first: allocators keep what they once had."""


def memory(pid: int) -> int:
    """Bytes of resident memory; 0 for a process that is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def files(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu(pid: int) -> float:
    """Seconds of processor time of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@define
class Memory:
    """Samples of the memory of processes by name."""

    samples: defaultdict[str, list[int]] = Factory(lambda: defaultdict(list))

    def sample(self, processes: Mapping[str, int]) -> None:
        for name, pid in processes.items():
            if taken := memory(pid):
                self.samples[name].append(taken)

    def thirds(self) -> dict[str, tuple[int, int]]:
        """The median of the first and of the last third of each."""
        found = {}
        for name, several in self.samples.items():
            third = max(1, len(several) // 3)
            found[name] = int(statistics.median(several[:third])), int(statistics.median(several[-third:]))
        return found

    def grown(self) -> list[str]:
        """Whose memory has grown more than a flat one does."""
        return [
            f"{name}: {first / MEGABYTE:.1f} MB, then {last / MEGABYTE:.1f} MB"
            for name, (first, last) in self.thirds().items()
            if last > first * GROWTH + GROWTH_BYTES
        ]
