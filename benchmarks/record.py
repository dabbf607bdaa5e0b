"""All that is known after a run: what --json writes and --from and --compare read."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .family import Workload
from .rounds import Result, Results, summarise


@dataclass
class Record:
    machine: dict
    settings: dict  # rounds and seconds
    loops: list[str]
    results: Results
    skipped: dict[str, str] = field(default_factory=dict)  # why, by a workload's path

    def write(self, path: str) -> None:
        found = [
            {
                "family": result.workload.family.name,
                "workload": result.workload.name,
                "loop": result.loop,
                "summary": result.summary,
                "goal": result.workload.goal,
                "error": result.error,
                "runs": result.runs,
            }
            for row in self.results.values()
            for result in row.values()
        ]
        content = {
            "machine": self.machine,
            "settings": self.settings,
            "loops": self.loops,
            "skipped": self.skipped,
            "results": found,
        }
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(content) + "\n")

    @classmethod
    def read(cls, path: str, workloads: Iterable[Workload]) -> "Record":
        """Of these workloads only; those that are no longer there are left out. Summaries are made
        anew from the runs. ValueError if the file is no such record."""
        try:
            content = json.loads(Path(path).read_text())
            record = cls(
                content["machine"], content["settings"], content["loops"], {}, content["skipped"]
            )
            known = {workload.path: workload for workload in workloads}
            for found in content["results"]:
                workload = known.get(f"{found['family']}/{found['workload']}")
                if workload:
                    # The goal may be another one on this Python.
                    then = replace(workload, goal=found["goal"])
                    result = Result(then, found["loop"], found["runs"], found["error"])
                    record.results.setdefault(workload, {})[found["loop"]] = result
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not what --json writes: {error!r}") from None
        for row in record.results.values():
            summarise(row)
        return record
