"""Who sends when: users that wait for their answers, and a schedule that waits for nobody."""

from __future__ import annotations

import math

from pipeline.bench.pacing import OPENED_AHEAD, SENT_AT_ONCE, Closed, Open

TIMES = (0.0, 0.5, 0.6, 2.0)


def test_users_send_when_they_may() -> None:
    pace = Closed(3)
    assert (pace.wait_s(0.0, 9.0), [*pace.due(0.0)]) == (9.0, [])
    pace.begin(0.0)
    assert pace.wait_s(0.0, 9.0) == 0.0
    assert [*pace.due(0.0)] == pace.users
    assert pace.wait_s(0.0, 9.0) == 9.0
    pace.ready.append(pace.users[1])
    assert [*pace.due(5.0)] == [pace.users[1]]


def test_nothing_is_sent_before_the_level_begins() -> None:
    pace = Open(TIMES)
    assert ([*pace.due(1e9)], pace.wait_s(1e9, 9.0)) == ([], 9.0)


def test_each_is_sent_at_its_time_though_none_is_answered() -> None:
    pace = Open(TIMES)
    pace.begin(100.0)
    sent = []
    for now, count, wait in [(100.0, 1, 0.5), (100.4, 0, 0.1), (100.7, 2, 1.3), (102.0, 1, 9.0)]:
        due = [*pace.due(now)]
        assert len(due) == count
        assert math.isclose(pace.wait_s(now, 9.0), wait)
        sent += [(user.due_s, user.is_held) for user in due]
    assert sent == [(100.0 + at_s, False) for at_s in TIMES]
    assert len({id(user) for user in pace.users}) == 4


def test_a_connection_that_was_used_is_used_again() -> None:
    pace = Open(TIMES)
    pace.begin(0.0)
    (first,) = pace.due(0.0)
    pace.ready.append(first)
    assert [*pace.due(0.5)] == [first]


def test_a_limit_holds_requests_back_and_says_so() -> None:
    pace = Open(TIMES, max_in_flight=1)
    pace.begin(0.0)
    (user,) = pace.due(0.0)
    assert [*pace.due(1.0)] == []
    assert pace.wait_s(1.0, 9.0) == 9.0
    pace.ready.append(user)
    assert [(one.due_s, one.is_held) for one in pace.due(1.1)] == [(0.5, True)]
    pace.ready.append(user)
    assert [(one.due_s, one.is_held) for one in pace.due(1.2)] == [(0.6, True)]
    pace.ready.append(user)
    assert [(one.due_s, one.is_held) for one in pace.due(2.0)] == [(2.0, False)]


def test_a_burst_is_sent_in_parts_so_that_answers_are_read_meanwhile() -> None:
    pace = Open([0.0] * 1000)
    assert len(pace.users) == OPENED_AHEAD
    pace.begin(0.0)
    assert len([*pace.due(0.0)]) == SENT_AT_ONCE
    assert pace.wait_s(0.0, 9.0) == 0.0
