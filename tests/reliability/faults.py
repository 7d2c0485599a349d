"""The faults that are injected, and how each is to be handled: what the matrix is printed of.

A test says which of them it injects: `@pytest.mark.fault("A1", "B8")`. Sections: A process,
machine and memory; B storage and tracking; C what changes between a run and the next; D data.
Severity: S1 loses or falsifies results, S2 loses hours of work or hangs, S3 is an unclear
error.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    severity: str
    what: str
    handled: str


FAULTS = {
    # ---- A: process, machine, memory
    "A1": Fault("S1", "the driver is killed at any point", "no result lost, none made twice"),
    "A2": Fault("S1", "power is cut at any point", "what was acknowledged is there"),
    "A3": Fault("S1", "a worker is killed", "its trial continues from its checkpoint"),
    "A4": Fault("S2", "a node is lost", "its trials continue on another"),
    "A5": Fault("S1", "an attempt writes after it was taken over", "refused"),
    "A6": Fault("S2", "the driver dies: its children", "all gone within 10 s"),
    "A7": Fault("S2", "a GPU is out of memory", "failed, with what was held and a hint"),
    "A8": Fault("S2", "the machine is out of memory", "failed, and the sweep goes on"),
    "A9": Fault("S1", "a measurement is not a finite number", "diverged, in no mean, listed"),
    "A10": Fault("S3", "a loss grows without end", "diverged once it is not finite"),
    "A11": Fault("S2", "a trial hangs", "stacks in its log, ended, tried again"),
    "A12": Fault("S2", "every trial fails alike", "stopped after a few, one message"),
    "A13": Fault("S2", "a trainer crashes its process", "the signal is named"),
    "A14": Fault("S1", "Ctrl-C once", "stopped within 10 s, resumable, exit 75"),
    "A15": Fault("S1", "Ctrl-C twice", "ended within 3 s, no orphans"),
    "A16": Fault("S1", "SIGTERM, SIGHUP, SIGUSR1", "as Ctrl-C once"),
    "A17": Fault("S2", "the clock jumps", "no lease, duration or id depends on it"),
    "A18": Fault("S2", "too few GPUs", "refused before the first trial, exit 3"),
    "A19": Fault("S3", "a GPU is another's, or hidden", "said with numbers"),
    "A20": Fault("S2", "Ray's head is lost", "exit 75 or 3, resumable"),
    "A21": Fault("S2", "Python or torch differ between driver and worker", "refused, both named"),
    "A22": Fault("S2", "few open files and a thousand trials", "bounded"),
    # ---- B: storage and tracking
    "B1": Fault("S1", "the disk is full at a checkpoint", "the one before it is whole"),
    "B2": Fault("S1", "the disk is full at the record", "nothing half written, exit 3"),
    "B3": Fault("S1", "the disk is full for MLflow", "training goes on, delivered later"),
    "B4": Fault("S2", "MLflow's database is locked", "training goes on, delivered later"),
    "B5": Fault("S1", "MLflow is down, slow, or answers 5xx", "nothing missing, nothing twice"),
    "B6": Fault("S2", "MLflow is down at the end", "said, and `sweeper sync` delivers"),
    "B7": Fault("S1", "MLflow commits and the answer is lost", "no second run, no point twice"),
    "B8": Fault("S3", "a run is left RUNNING", "closed by the next run or `gc`"),
    "B9": Fault("S1", "a checkpoint is cut short", "the one before it is used, and said"),
    "B10": Fault("S1", "a bit of a checkpoint is flipped", "found, always"),
    "B11": Fault("S1", "a checkpoint of another trial", "refused"),
    "B12": Fault("S1", "a checkpoint that is code", "not run"),
    "B13": Fault("S1", "a journal or a result is damaged", "corrupt, exit 6, what repairs it"),
    "B14": Fault("S2", "a journal is deleted and its result left", "the result stands"),
    "B15": Fault("S2", "a record of a newer version", "refused, with the version"),
    "B16": Fault("S2", "a store of an older version", "read"),
    "B17": Fault("S3", "the store is a file, or cannot be written", "exit 3 before any trial"),
    "B18": Fault("S2", "a folder is removed while its trial runs", "said, not made anew"),
    "B19": Fault("S1", "relative paths and a worker elsewhere", "they mean the same"),
    "B20": Fault("S2", "a folder that a node does not see", "said before the first trial"),
    "B21": Fault("S1", "one sweep is run twice at once", "the second says who owns it, exit 3"),
    "B22": Fault("S2", "two sweeps need one trial at once", "trained once, awaited by the other"),
    "B23": Fault("S3", "an artifact is uploaded in part", "uploaded again"),
    "B24": Fault("S2", "a link is planted where a file is written", "not followed"),
    # ---- C: what changes between a run and the next
    "C1": Fault("S1", "the sweep file is edited", "what is new, kept and left out is said"),
    "C2": Fault("S2", "comments, order or spelling are edited", "nothing is run again"),
    "C3": Fault("S1", "the trainer's code is edited", "said, marked; --strict refuses"),
    "C4": Fault("S1", "a data file is edited", "other trials, said, nothing mixed"),
    "C5": Fault("S2", "packages are changed", "said, marked; --strict refuses"),
    "C6": Fault("S3", "the GPU is another", "said, marked; --strict refuses"),
    "C7": Fault("S1", "a seed or a configuration stands twice", "refused, or said to be one"),
    # ---- D: data, each found before the first trial
    "D1": Fault("S3", "a split is missing", "its path"),
    "D2": Fault("S3", "an empty file", "its path"),
    "D3": Fault("S3", "only blank lines", "file and line"),
    "D4": Fault("S3", "a binary file", "file and line, the bytes"),
    "D5": Fault("S3", "NUL bytes", "file and line"),
    "D6": Fault("S3", "a line of 50 MB", "file and line, soon"),
    "D7": Fault("S3", "not UTF-8", "file, line and byte"),
    "D8": Fault("S3", "a byte order mark", "read as such"),
    "D9": Fault("S3", "Windows line ends", "read as such"),
    "D10": Fault("S3", "lone surrogates", "file and line"),
    "D11": Fault("S3", "a wrong number of columns", "file and line"),
    "D12": Fault("S1", "labels in some lines only", "file and line"),
    "D13": Fault("S1", "labels in some files only", "which"),
    "D14": Fault("S1", "sentences of train in test", "said, with their share"),
    "D15": Fault("S1", "no row is left under a limit", "refused"),
    "D16": Fault("S3", "a folder in place of a file", "its path"),
    "D17": Fault("S3", "a pipe, which would hang", "its path, at once"),
    "D18": Fault("S3", "/dev/zero, which never ends", "its path, at once"),
    "D19": Fault("S3", "a file that may not be read", "its path"),
    "D20": Fault("S3", "gzip that is named .txt", "file, and that it is gzip"),
    "D21": Fault("S1", "a file that changes while it is read", "refused"),
    "D22": Fault("S3", "UTF-16", "file and line"),
    "D23": Fault("S3", "a carriage return in a line", "file and line"),
    "D24": Fault("S1", "the model's own marks in a text", "file and line"),
    "D25": Fault("S1", "fewer sentences than a limit asks for", "how many there are"),
    "D26": Fault("S3", "a link to nowhere", "its path"),
}
