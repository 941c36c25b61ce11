# SPDX-License-Identifier: Apache-2.0
"""The kernel has room for so many files: the host's own come first, and no session takes another's."""

from __future__ import annotations

from monitor.lowered import MOST_ROWS
from monitor.response.room import Found, fitting, too_many


def files(first, count, path="/watched"):
    return [(path, (1, first + number)) for number in range(count)]


def always(_path):
    return True


def test_where_all_fit_nothing_is_left_out():
    found = Found({"/a": {(1, 1)}, "/b": {(1, 1), (1, 2)}}, {5: [("/a", (1, 3)), ("/b", (1, 3))]})
    told, left_out = fitting(found, always)
    assert told == {(1, 1): ["/a", "/b"], (1, 2): ["/b"], (1, 3): ["/a", "/b"]}
    assert left_out == {}


def test_what_nobody_wants_takes_no_room():
    told, _ = fitting(Found({"/a": {(1, 1)}, "/b": {(1, 2)}}, {}), lambda path: path == "/b")
    assert told == {(1, 2): ["/b"]}


def test_the_files_of_a_session_are_bounded_and_its_oldest_root_is_in():
    told, left_out = fitting(Found({"/a": {(2, 1)}}, {5: files(0, 20_000)}), always)
    assert (2, 1) in told
    assert (1, 0) in told
    assert len(told) + left_out[5] == 20_001
    assert len(told) < MOST_ROWS / 2
    assert set(left_out) == {5}


def test_a_session_with_many_files_leaves_the_others_theirs():
    greedy = {slot: files(slot * 100_000, 20_000) for slot in range(1, 12)}
    modest = {99: files(99 * 100_000, 100)}
    told, left_out = fitting(Found({}, greedy | modest), always)
    assert len(told) <= MOST_ROWS
    assert set(left_out) == set(greedy)


def test_a_host_that_fills_the_room_keeps_it_and_says_what_is_left_out():
    on_host = {"/watched": {inode for _, inode in files(0, MOST_ROWS + 10)}}
    told, left_out = fitting(Found(on_host, {5: files(100_000, 3)}), always)
    assert len(told) == MOST_ROWS
    assert left_out == {0: 10, 5: 3}


def test_rules_that_fit_are_no_problem_and_others_are_told_by_what_is_too_many():
    counts = dict.fromkeys(("watched_paths", "watched_leaves", "watched_networks"), MOST_ROWS)
    assert too_many(counts | {"exempt_programs": 0}) == []
    (problem,) = too_many(counts | {"exempt_programs": MOST_ROWS + 1})
    assert f"{MOST_ROWS + 1} exempt programs" in problem.message
    assert problem.mend
