"""What Linux tells of a process's memory."""

import gc
from pathlib import Path


def peak_memory(pid: int | str = "self") -> int:
    """KiB that a process had resident at most, 0 if unknown. getrusage() would count its parent
    before exec."""
    try:
        return field(Path(f"/proc/{pid}/status"), "VmHWM:")
    except OSError:
        return 0


def pss_kib() -> int:
    """Proportional set size of this process: its own pages, and its share of those it shares."""
    gc.collect()
    return field(SMAPS, "Pss:")


SMAPS = Path("/proc/self/smaps_rollup")


def why_no_pss() -> str:
    return "" if SMAPS.exists() else f"no {SMAPS} here"


def field(file: Path, name: str) -> int:
    lines = file.read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
