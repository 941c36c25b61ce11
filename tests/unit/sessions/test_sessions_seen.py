# SPDX-License-Identifier: Apache-2.0
"""What a session did before, by the categories that ask for it; and whether it has a terminal."""

from __future__ import annotations

import os
import pty

from monitor.fields import Fact
from monitor.sessions.live import SeenBefore
from monitor.sessions.process_tree import has_terminal


def connection(port, name=None):
    fields = {"DestinationIp": "192.0.2.1", "DestinationPort": port, "DestinationHostname": name}
    return Fact(category="network_connection", fields=fields)


def first(seen, fact):
    return seen.first(fact.category, fact.fields)


def test_an_address_is_new_once_for_each_port_and_name():
    seen = SeenBefore()
    assert first(seen, connection(443))
    seen.add(connection(443))
    assert not first(seen, connection(443))
    assert first(seen, connection(80))
    assert first(seen, connection(443, "example.org"))


def test_a_program_and_a_name_that_are_spelled_alike_are_not_the_same():
    seen = SeenBefore()
    seen.add(Fact(category="process_creation", fields={"Image": "x"}))
    assert seen.first("dns_query", {"QueryName": "x"})
    assert not seen.first("process_creation", {"Image": "x"})


def test_what_nobody_asks_about_is_not_kept():
    seen = SeenBefore(limit=1)
    seen.add(connection(443))
    seen.add(Fact(category="file_access", fields={"TargetFilename": "/etc/hosts"}))
    assert not first(seen, connection(443))


def test_the_oldest_is_forgotten():
    seen = SeenBefore(limit=2)
    for port in (1, 2, 1, 3):
        seen.add(connection(port))
    assert [first(seen, connection(port)) for port in (1, 2, 3)] == [False, True, False]


def test_a_process_has_a_terminal_if_it_was_started_on_one():
    pid, terminal = pty.fork()
    if pid == 0:
        os.write(1, b"here")
        os.read(0, 1)
        os._exit(0)
    try:
        os.read(terminal, 1)
        assert has_terminal(pid)
    finally:
        os.write(terminal, b"\n")
        os.waitpid(pid, 0)
        os.close(terminal)
    assert not has_terminal(pid)
