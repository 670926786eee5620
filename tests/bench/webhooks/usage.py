"""The processor time that each process used."""

import os

import psutil


def read_cpu_s(pid: int) -> float:
    """Seconds of processor time of a process and its children, ended children included."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return sum(sum(_read_times(member)[:4]) for member in family)


def _read_times(process: psutil.Process) -> tuple[float, ...]:
    try:
        return tuple(process.cpu_times())
    except psutil.NoSuchProcess:
        return (0.0,)


class Usage:
    """Processor seconds by name of process, from the creation of the object until `stop`."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids | {"bench": os.getpid()}
        self._begun = {name: self._read(name) for name in self._pids}

    def stop(self) -> dict[str, float]:
        return {name: self._read(name) - self._begun[name] for name in self._pids}

    def _read(self, name: str) -> float:
        if name == "bench":  # its children are counted under their own names
            times = psutil.Process().cpu_times()
            return times.user + times.system
        return read_cpu_s(self._pids[name])
