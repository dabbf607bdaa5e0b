"""Ctrl-C: how long a program under asyncio.Runner whose loop is idle outlives a SIGINT."""

import asyncio
import os
import signal
import statistics
import time

from . import cores
from .family import Family, LoopFactory, Metrics, Workload

GOAL_MS = 5
LIMIT_S = 2  # how long the program sleeps: a loop that does not wake for the signal wakes then


class CtrlC(Family):
    name = "ctrl-c"
    title = "Ctrl-C on an idle loop: ms until asyncio.Runner has ended, median / worst"
    unit = "ms"
    cost = "median_ms"

    def summarise(self, runs: list[Metrics], stock: list[Metrics]) -> Metrics:
        worst = max(run["worst_ms"] for run in runs)
        return {**super().summarise(runs, stock), "worst_ms": worst}

    def cell(self, summary: Metrics) -> str:
        if summary["median_ms"] > LIMIT_S * 900:
            return "not before a timer"
        return f"{summary['median_ms']:,.2f} / {summary['worst_ms']:,.2f}"

    def goal(self, workload: Workload) -> str:
        return f"{workload.goal:g} ms"

    def met(self, workload: Workload, summary: Metrics) -> bool:
        return summary["median_ms"] <= workload.goal


def measure(new_event_loop: LoopFactory, seconds: float) -> Metrics:
    # What a shell has put into the background ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    latencies = []
    while len(latencies) < 5 and sum(latencies) < 0.5:
        latencies.append(interrupt(new_event_loop))
    return {
        "median_ms": statistics.median(latencies) * 1e3,
        "worst_ms": max(latencies) * 1e3,
    }


def interrupt(new_event_loop: LoopFactory) -> float:
    """Seconds from a SIGINT that another process sends to the end of the program."""
    read_end, write_end = os.pipe()
    sender = os.fork()
    if not sender:
        send_sigint(write_end)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(asyncio.sleep(LIMIT_S))
    except KeyboardInterrupt:
        pass
    ended = time.perf_counter()
    os.waitpid(sender, 0)
    sent = float(os.read(read_end, 64))
    os.close(read_end)
    os.close(write_end)
    return ended - sent


def send_sigint(write_end: int) -> None:
    try:
        cores.move_elsewhere()
        time.sleep(0.02)
        os.write(write_end, repr(time.perf_counter()).encode())
        os.kill(os.getppid(), signal.SIGINT)
    finally:
        os._exit(0)


FAMILY = CtrlC()
FAMILY.workloads.append(Workload(FAMILY, "asyncio.Runner", measure, goal=GOAL_MS, headline=True))
