"""The journal: what is appended comes back, whatever a kill leaves at its end."""

from __future__ import annotations

import math

import pytest

from sweeper.errors import CorruptRecord
from sweeper.track import journal
from sweeper.track.journal import Journal
from sweeper.track.sealed import seal, spell, unseal, unspell


def start(attempt, evaluation_id="e"):
    return {"kind": "start", "attempt": attempt, "at": 0.0, "evaluation_id": evaluation_id}


def measure(attempt, cost, **values):
    return {
        "kind": "measure",
        "attempt": attempt,
        "at": float(cost),
        "seconds": cost / 10,
        "cpu_seconds": cost / 20,
        "cost": cost,
        "values": spell(values),
    }


def end(attempt, seconds=0.0):
    return {"kind": "end", "attempt": attempt, "at": 0.0, "seconds": seconds, "state": "done"}


def courses(entries):
    return [(m.cost, dict(m.values), m.attempt) for m in journal.history(entries)]


@pytest.mark.fault("B13")
def test_every_flipped_bit_of_a_line_is_seen():
    line = seal({"kind": "measure", "values": {"loss": 0.1}})
    assert unseal(line) == {"kind": "measure", "values": {"loss": 0.1}}
    for place in range(len(line)):
        for bit in range(8):
            bad = bytearray(line)
            bad[place] ^= 1 << bit
            with pytest.raises(ValueError, match="checksum"):
                unseal(bytes(bad))


def test_numbers_json_lacks_come_back_as_floats():
    values = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1 + 0.2, "e": 3}
    spelt = spell(values)
    assert (spelt["a"], spelt["b"], spelt["c"]) == ("nan", "inf", "-inf")
    back = unspell(unseal(seal(spelt)))
    assert math.isnan(back.pop("a"))
    assert back == {"b": math.inf, "c": -math.inf, "d": 0.1 + 0.2, "e": 3.0}


def test_a_tail_torn_at_any_byte_is_repaired_before_the_next_line(tmp_path):
    whole = [start(1), measure(1, 1, loss=2.0), measure(1, 2, loss=1.5)]
    content = b"".join(seal(entry) + b"\n" for entry in whole)
    last = len(seal(whole[-1])) + 1
    path = tmp_path / "journal.jsonl"
    for lost in range(1, last + 1):
        path.write_bytes(content[:-lost])
        assert journal.read(path)[0] == whole[:2]
        again = Journal(path)
        assert again.entries == whole[:2]
        again.append(measure(1, 3, loss=1.0))
        again.close()
        assert journal.read(path)[0] == [*whole[:2], measure(1, 3, loss=1.0)]


@pytest.mark.parametrize("tail", [b"\0" * 300, b"\0" * 100 + b"\n", b"half a line\nand another\n"])
def test_what_a_power_cut_leaves_is_dropped(tmp_path, tail):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(seal(start(1)) + b"\n" + tail)
    again = Journal(path)
    again.append(measure(1, 1, loss=1.0))
    again.close()
    assert journal.read(path)[0] == [start(1), measure(1, 1, loss=1.0)]


def test_damage_before_a_good_line_is_an_error_that_names_the_line(tmp_path):
    lines = [seal(entry) for entry in (start(1), measure(1, 1, loss=2.0), measure(1, 2, loss=1.0))]
    lines[1] = lines[1].replace(b"2.0", b"0.2")
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(CorruptRecord, match=r"journal\.jsonl:2: this line was changed"):
        journal.read(path)


def test_a_continued_attempt_replaces_only_what_came_after_its_checkpoint():
    entries = [start(1), measure(1, 10, x=1), measure(1, 20, x=2), measure(1, 30, x=3)]
    entries += [start(2), measure(2, 30, x=33), measure(2, 40, x=4)]
    expected = [(10, {"x": 1}, 1), (20, {"x": 2}, 1), (30, {"x": 33}, 2), (40, {"x": 4}, 2)]
    assert courses(entries) == expected


def test_a_restarted_attempt_replaces_everything():
    entries = [start(1), measure(1, 10, x=1), measure(1, 20, x=2), start(2), measure(2, 10, x=5)]
    assert courses(entries) == [(10, {"x": 5}, 2)]


def test_two_measurements_at_one_cost_both_stay():
    entries = [start(1), measure(1, 10, x=1), measure(1, 10, y=2)]
    assert courses(entries) == [(10, {"x": 1}, 1), (10, {"y": 2}, 1)]


def test_evaluating_again_adds_to_the_last_point():
    entries = [start(1), measure(1, 10, x=1), measure(1, 10, nll=7), end(1)]
    entries += [start(2, "other"), measure(2, 10, nll=6), end(2)]
    assert courses(entries) == [(10, {"x": 1, "nll": 6}, 2)]
    assert courses(journal.until_last(entries, "e")) == [
        (10, {"x": 1}, 1),
        (10, {"nll": 7}, 1),
    ]
    assert journal.until_last(entries, "other") == entries
    assert journal.until_last(entries, "neither") == []


def test_late_lines_of_an_older_attempt_do_not_count():
    entries = [start(1), measure(1, 10, x=1), start(2), measure(1, 20, x=9), measure(2, 20, x=2)]
    assert courses(entries) == [(10, {"x": 1}, 1), (20, {"x": 2}, 2)]


def test_seconds_of_all_attempts_are_summed_a_killed_one_until_its_last_line():
    entries = [start(1), measure(1, 10), measure(1, 30), start(2), measure(2, 40), end(2, 9.0)]
    assert journal.seconds_spent(entries) == {"seconds": 3.0 + 9.0, "cpu_seconds": 1.5 + 0.0}


def test_attempts_of_which_nothing_is_left_had_no_part():
    first = [start(1), measure(1, 10, loss=5.0, kl=1.0), measure(1, 20, loss=4.0, kl=1.0)]
    assert journal.contributors(first) == {1}
    continued = [*first, start(2), measure(2, 20, loss=3.0, kl=1.0)]
    assert journal.contributors(continued) == {1, 2}
    afresh = [*continued, start(3), measure(3, 10, loss=2.0, kl=1.0)]
    assert journal.contributors(afresh) == {3}
    scored = [start(1), measure(1, 10, loss=5.0), start(2), measure(2, 10, nll=2.0)]
    assert journal.contributors(scored) == {1, 2}  # one point, a value of each


@pytest.mark.fault("B2")
def test_a_full_disk_leaves_whole_lines(tmp_path):
    resource = pytest.importorskip("resource")
    import signal

    from sweeper.errors import EnvironmentFault

    path = tmp_path / "journal.jsonl"
    log = Journal(path)
    log.append(start(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
        with pytest.raises(EnvironmentFault, match="cannot append to"):
            log.append(measure(1, 1, loss=1.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    log.append(measure(1, 2, loss=2.0))
    log.close()
    assert journal.read(path)[0] == [start(1), measure(1, 2, loss=2.0)]
