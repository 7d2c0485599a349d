"""A plan in; what has become of it while other processes run its trials out, by a look only at
what has changed: those that run, and the folders that are not as they were."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sweeper.plan import Plan, plan
from sweeper.provenance import code_digest
from sweeper.track.folder import Folder
from sweeper.trial import Trial

LOOKS = 2  # that find a folder as it was: what came in the tick of the first has another date


@dataclass(kw_only=True)
class Onlooker:
    """Has state because what has not changed since is not read again. A lease that is taken and
    a result that is written are new names in a trial's folder, which has a new date then; that a
    process dies has none, so those that run are looked at each time."""

    folder: Folder
    plan: Plan
    running: Sequence[Trial] = ()  # one a training
    _dates: dict[str, tuple[int, int]] = field(default_factory=dict)  # date, and looks that saw it

    def look(self) -> None:
        there = set(self.folder.ids())
        ran = {trial.id for trial in self.running}
        ids = dict.fromkeys(t.id for t in self.plan.trials if self.plan.states[t.key] != "done")
        changed = {id for id in ids if id in ran or (id in there and self.has_changed(id))}
        some = [trial for trial in self.plan.trials if trial.id in changed]
        if some:
            self.plan = merged(self.plan, self.part(some))
        # Also where the result that other code made still stands.
        now = {id for id in changed if self.folder.is_running(id)}
        by_id = {t.id: t for t in reversed(some) if t.id in now and self.plan.asked_for(t)}
        by_id |= {t.id: t for t in reversed(some) if self.plan.states[t.key] == "running"}
        self.running = [by_id[id] for id in ids if id in by_id and id in now]

    def part(self, some: Sequence[Trial]) -> Plan:
        records = self.folder.find(some)
        done = {key for key, record in records.items() if record.state == "done"}
        trained = self.folder.trained(trial for trial in some if trial.key not in done)
        return plan(some, records, code_digest, trained=trained)

    def has_changed(self, id: str) -> bool:
        try:
            date = os.stat(self.folder.path(id)).st_mtime_ns
        except OSError:
            date = 0
        before, looks = self._dates.get(id, (-1, 0))
        looks = looks + 1 if date == before else 1
        self._dates[id] = (date, looks)
        return looks <= LOOKS


def merged(whole: Plan, part: Plan) -> Plan:
    """`whole` with what `part` knows of some of its trials."""
    keys = set(part.states)
    return replace(
        whole,
        records={k: r for k, r in whole.records.items() if k not in keys} | dict(part.records),
        states={**whole.states, **part.states},
        trained=whole.trained | part.trained,
    )
