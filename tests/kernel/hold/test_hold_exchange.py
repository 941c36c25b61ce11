# SPDX-License-Identifier: Apache-2.0
"""Rules are exchanged: what is known by its inode is judged by the new ones, and by nobody else's."""

from __future__ import annotations

import itertools
import os

import pytest
from calls import opening
from held import go_on, held_by

from monitor.errors import RuleError
from monitor.events import Opened, Verdict
from monitor.lowered import MAX_WATCHES, MOST_ROWS, Act, Lowered, Watch, Where
from monitor.response.verdicts import Verdicts, kernel_device

CAT, TEE = "/usr/bin/cat", "/usr/bin/tee"


@pytest.fixture
def secret(scratch):
    file = scratch / "secret"
    file.write_text("x")
    return file


@pytest.fixture
def other(scratch):
    file = scratch / "other"
    file.write_text("y")
    return file


def reading(path, *exempt):
    return Watch(Where.EXACT, str(path), Act.READ, Act(0), frozenset(exempt))


def rules(*watches):
    return Lowered(watches=watches)


def found(*paths):
    return {str(p): {(p.stat().st_dev, p.stat().st_ino)} for p in paths}


def test_a_known_file_is_held_by_a_rule_that_came_later(inside, puppet, verdicts, holds, secret):
    verdicts.replace(rules())
    verdicts.follow(found(secret))
    verdicts.replace(rules(reading(secret)))
    link = secret.with_name("link")
    link.hardlink_to(secret)
    held_by(inside, puppet, *opening(puppet, link))
    go_on(holds, inside, puppet)


def test_a_known_file_whose_rule_is_gone_is_not_held(inside, puppet, verdicts, secret):
    verdicts.replace(rules(reading(secret)))
    verdicts.follow(found(secret))
    verdicts.replace(rules())
    puppet(*opening(puppet, secret))
    assert inside.wait(Opened).verdict == Verdict.PASS


def test_a_known_file_that_no_rule_holds_is_held_where_its_path_is(
    inside, puppet, verdicts, holds, secret, other
):
    link = secret.with_name("link")
    link.hardlink_to(other)
    verdicts.replace(rules(reading(link)))
    verdicts.follow(found(other))
    held_by(inside, puppet, *opening(puppet, link))
    go_on(holds, inside, puppet)


def test_a_file_forgives_nobody_whom_another_rule_forgives_later(
    inside, puppet, verdicts, holds, secret, other
):
    verdicts.replace(rules(reading(other, TEE), reading(secret, CAT)))
    verdicts.follow(found(secret, other))
    verdicts.replace(rules(reading(secret, CAT), reading(other, puppet.image)))
    held_by(inside, puppet, *opening(puppet, secret))
    go_on(holds, inside, puppet)
    inside.forget_events()
    puppet(*opening(puppet, other))
    assert inside.wait(Opened).verdict == Verdict.PASS


class Exchange:
    """The kernel's maps, with a look at them after every change."""

    def __init__(self, kernel, look):
        self._kernel, self._look = kernel, look

    def map(self, name):
        return Looked(self._kernel.map(name), self._look)

    def judge_by(self, **settings):
        self._kernel.judge_by(**settings)


class Looked:
    def __init__(self, table, look):
        self._table, self._look = table, look

    def keys(self):
        return self._table.keys()

    def set(self, key, value):
        self._table.set(key, value)
        self._look()

    def delete(self, *key):
        self._table.delete(*key)
        self._look()


def image_of(program):
    image = os.stat(program)
    return image.st_ino ^ (kernel_device(image.st_dev) << 40) & (2**64 - 1)


@pytest.mark.parametrize("restarted", [False, True])
def test_while_rules_are_exchanged_a_file_is_watched_and_forgives_whom_it_always_did(
    kernel, verdicts, secret, other, restarted
):
    programs = {image_of(p): p for p in (CAT, TEE, "/usr/bin/env")}
    inode = secret.stat().st_ino
    seen = set()

    def look():
        groups = kernel.map("exempt_programs")
        rows = [
            *(row for key, row in kernel.map("watched_paths").items() if b"secret" in key[1]),
            *(row for key, row in kernel.map("watched_inodes").items() if key[0] == inode),
        ]
        forgiven = {
            program
            for (image, program), row in itertools.product(programs.items(), rows)
            if groups.get(image, row[4], 0)
        }
        seen.add((len(rows), all(row[0] == Act.READ for row in rows), *forgiven))

    verdicts.replace(rules(reading(other, TEE), reading(secret, CAT)))
    verdicts.follow(found(secret, other))
    look()
    assert seen == {(2, True, CAT)}
    after = verdicts if not restarted else Verdicts(kernel)
    after._kernel = Exchange(kernel, look)
    after.replace(rules(reading(secret, CAT), reading(other, "/usr/bin/env", TEE)))
    after.follow(found(secret, other))
    after.replace(rules(reading(other, "/usr/bin/env"), reading(secret, CAT)))
    look()
    assert seen == {(2, True, CAT)}
    after.replace(rules())
    after.follow({})


def many(prefix, count):
    return [reading(f"/{prefix}/{prefix}{number}") for number in range(count)]


def test_as_many_rules_as_fit_are_exchanged_for_as_many_others(
    inside, puppet, verdicts, holds, secret
):
    most = MOST_ROWS - 20  # the names that lead to them count too
    verdicts.replace(rules(*many("a", most)))
    verdicts.replace(rules(*many("b", most), reading(secret)))
    held_by(inside, puppet, *opening(puppet, secret))
    go_on(holds, inside, puppet)


def test_rules_of_which_the_kernel_cannot_be_told_are_refused_and_the_old_ones_stay(
    inside, puppet, verdicts, holds, secret, other
):
    verdicts.replace(rules(reading(secret)))
    verdicts.follow(found(secret))
    with pytest.raises(RuleError, match=f"{MOST_ROWS + 1} paths"):
        verdicts.replace(rules(*many("a", MOST_ROWS), reading(other)))
    verdicts.refresh()
    verdicts.follow(found(secret, other))
    held_by(inside, puppet, *opening(puppet, secret))
    go_on(holds, inside, puppet)
    inside.forget_events()
    puppet(*opening(puppet, other))
    assert inside.wait(Opened).verdict == Verdict.PASS


def test_a_session_with_more_files_than_fit_takes_no_room_from_the_host(
    inside, puppet, verdicts, holds, secret
):
    verdicts.replace(rules(reading(secret)))
    link = secret.with_name("link")
    link.hardlink_to(secret)
    crowd = [(str(secret), (1, number)) for number in range(MAX_WATCHES + 1)]
    verdicts.follow({}, {inside.slot: crowd})
    verdicts.follow(found(secret), {inside.slot: crowd})
    assert list(verdicts.left_out()) == [inside.slot]
    held_by(inside, puppet, *opening(puppet, link))
    go_on(holds, inside, puppet)
    verdicts.follow(found(secret))
    assert not verdicts.left_out()


def test_a_map_that_an_earlier_monitor_left_full_is_no_obstacle(kernel, verdicts, secret):
    table = kernel.map("watched_inodes")
    for number in range(MAX_WATCHES):
        table.set((number, 1, 0), (0,) * 6)
    verdicts.replace(rules(reading(secret)))
    verdicts.follow(found(secret))
    assert [key[0] for key in table.keys()] == [secret.stat().st_ino]  # noqa: SIM118 - no dict
