# SPDX-License-Identifier: Apache-2.0
"""Notices over real sockets: none lost, none forged, none for what is no news."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import platform
import threading
import time

import pytest

from monitor.alerts import Action, Alert, Level, Outcome, Response, RuleRef, SessionRef
from monitor.casebook import Casebook
from monitor.errors import ConfigError
from monitor.incidents import Resolution
from monitor.metrics import Metrics
from monitor.notify.notices import Told
from monitor.notify.notifier import Notifier
from monitor.notify.targets import People, Webhook, targets
from monitor.notify.wording import Wording

SECRET = b"sixteen bytes or more"


def until(condition, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Receiver:
    """A web server that keeps what it is sent, and refuses while it is told to."""

    def __init__(self):
        self.got = []
        self.paths = []
        self.status = 204
        self.closed_paths = ()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 500 if self.path in receiver.closed_paths else receiver.status
                if status < 300:
                    receiver.got.append((dict(self.headers), body))
                    receiver.paths.append(self.path)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def address(self):
        return "{}:{}".format(*self._server.server_address)

    @property
    def notices(self):
        return [json.loads(body) for _, body in self.got]

    @property
    def kinds(self):
        return [(notice["kind"], notice["incident"]["session"]["id"]) for notice in self.notices]

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver():
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def book(store):
    return Casebook(store)


@pytest.fixture
def tell(store):
    running = []

    def start(*given, **settings):
        made = Notifier(store, given, Metrics(), spacing_s=0.0, **settings)
        running.append(made)
        return made

    yield start
    for one in running:
        one.close()


def stop(book, session="s", title="Hosts file edited"):
    alert = Alert(
        id=f"a-{session}",
        time="",
        session=SessionRef(id=session, name=f"agent-{session}"),
        rule=RuleRef(id="r", title=title, level=Level.HIGH),
        response=Response.FREEZE,
        outcome=Outcome(action=Action.FROZEN),
        event={},
    )
    book.stopped(alert, f"What {session} did.")


def hook(receiver):
    return Webhook(f"http://{receiver.address}/in?key=private", SECRET)


def test_a_stop_and_its_end_are_told_once_each_and_notes_are_not(book, store, tell, receiver):
    tell(hook(receiver), console_url="https://desk.example/")
    stop(book)
    assert until(lambda: len(receiver.got) == 1)
    (incident,) = store.incidents().items
    book.acknowledge(incident.id, who="ann", why="")
    book.resolved("s", Resolution.RESUMED)
    assert until(lambda: len(receiver.got) == 2)
    book.assign(incident.id, "bob", who="ann")
    store.settle()
    time.sleep(0.3)
    assert receiver.kinds == [("incident.opened", "s"), ("incident.resolved", "s")]
    assert receiver.notices[0]["url"] == f"https://desk.example/#/incidents/{incident.id}"


def test_the_signature_covers_time_and_body(book, tell, receiver):
    tell(hook(receiver))
    stop(book)
    assert until(lambda: receiver.got)
    headers, body = receiver.got[0]
    parts = dict(part.split("=") for part in headers["Estop-Signature"].split(","))
    assert abs(int(parts["t"]) - time.time()) < 60
    signed = hmac.new(SECRET, f"{parts['t']}.".encode() + body, hashlib.sha256).hexdigest()
    assert signed == parts["v1"]


def test_what_could_not_be_delivered_comes_later_and_health_says_so(book, tell, receiver):
    receiver.status = 500
    notifier = tell(hook(receiver))
    stop(book)
    assert until(notifier.problems)
    assert "it answered 500" in notifier.problems()[0]
    assert "private" not in notifier.problems()[0]
    receiver.status = 200
    assert until(lambda: receiver.kinds == [("incident.opened", "s")])
    assert until(lambda: not notifier.problems())


def test_a_restart_loses_nothing_and_repeats_nothing(book, store, tell, receiver):
    first = tell(hook(receiver))
    stop(book, "one")
    assert until(lambda: len(receiver.got) == 1)
    first.close()
    store.settle()
    stop(book, "two")
    book.resolved("one", Resolution.KILLED)
    store.settle()
    tell(hook(receiver))
    assert until(lambda: len(receiver.got) == 3)
    time.sleep(0.2)
    assert sorted(receiver.kinds) == [
        ("incident.opened", "one"),
        ("incident.opened", "two"),
        ("incident.resolved", "one"),
    ]


def test_a_new_target_is_not_told_of_what_is_long_over(book, store, tell, receiver):
    stop(book, "old")
    book.resolved("old", Resolution.KILLED)
    store.settle()
    tell(hook(receiver))
    stop(book, "new")
    assert until(lambda: receiver.got)
    assert receiver.kinds == [("incident.opened", "new")]


def test_one_that_is_dead_delays_no_other(book, tell, receiver):
    tell(Webhook("http://127.0.0.1:1/", SECRET), hook(receiver))
    stop(book)
    assert until(lambda: receiver.got, 3)


def test_people_get_words_and_many_at_once_are_one_message(book, store, tell, receiver):
    for number in range(5):
        stop(book, f"s{number}", title="Hosts file \x1b[2Jedited")
    store.settle()
    people = People(f"json://{receiver.address}", Wording())
    store.save_told(people.name, Told(seq=0))
    store.settle()
    tell(people)
    assert until(lambda: receiver.got)
    time.sleep(0.2)
    (only,) = receiver.notices
    assert only["title"] == f"estop: 5 pieces of news from {platform.node()}"
    assert "agent-s3" in only["message"]
    assert "\x1b" not in only["message"]


def test_a_message_says_what_happened_and_what_to_do(book, tell, receiver):
    tell(People(f"json://{receiver.address}", Wording()))
    stop(book)
    assert until(lambda: receiver.got)
    message = receiver.notices[0]
    assert message["title"] == f"estop stopped agent-s on {platform.node()}: Hosts file edited"
    for part in ("What s did.", "estop resume agent-s", "estop kill agent-s"):
        assert part in message["message"]


@pytest.mark.parametrize(
    "url",
    [
        "wecombot://0a1b2c3d-1111-2222-3333-444455556666/",
        "dingtalk://0123456789abcdef0123456789abcdef01234567/",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/",
        "ntfy://our-topic",
    ],
)
def test_of_a_url_to_people_no_more_is_said_than_its_scheme(url):
    scheme, _, secret = url.partition("://")
    name = People(url, Wording()).name
    assert name.split()[:2] == ["notice", scheme]
    assert not any(part.lower() in name for part in secret.split("/") if part)
    assert name != People(f"{scheme}://{secret[::-1].strip('/')}", Wording()).name


def test_of_a_url_that_is_wrong_no_more_is_said_than_its_scheme():
    with pytest.raises(ConfigError) as told:
        People("nonsense://password", Wording())
    assert "'nonsense:'" in str(told.value)
    assert "password" not in str(told.value)


def hooks_of(receiver, *paths):
    return [Webhook(f"http://{receiver.address}{path}", SECRET) for path in paths]


def test_of_two_webhooks_on_one_host_each_is_told(book, store, tell, receiver):
    receiver.closed_paths = ("/two",)
    notifier = tell(*hooks_of(receiver, "/one", "/two"))
    stop(book)
    assert until(lambda: receiver.paths == ["/one"] and notifier.problems())
    notifier.close()
    store.settle()  # what it told last is written when it has ended
    receiver.closed_paths = ()
    tell(*hooks_of(receiver, "/one", "/two"))
    assert until(lambda: receiver.paths == ["/one", "/two"])


def test_the_cursor_of_earlier_versions_is_for_those_who_are_there_when_it_is_found(
    book, store, tell, receiver
):
    store.save_told(f"webhook http://{receiver.address.rpartition(':')[0]}", Told(seq=0))
    stop(book)
    store.settle()
    notifier = tell(*hooks_of(receiver, "/one", "/two"))
    assert until(lambda: sorted(receiver.paths) == ["/one", "/two"])
    notifier.close()
    store.settle()  # what it told last is written when it has ended
    tell(*hooks_of(receiver, "/one", "/two", "/three"))  # which hears of nothing that is over
    time.sleep(0.3)
    assert sorted(receiver.paths) == ["/one", "/two"]


def test_what_earlier_versions_had_not_told_yet_is_told_once(book, store, tell, receiver):
    people = People(f"json://{receiver.address}", Wording())
    store.save_told(people.former, Told(seq=0))
    stop(book, "one")
    store.settle()
    for _ in range(2):
        notifier = tell(People(f"json://{receiver.address}", Wording()))
        assert until(lambda: receiver.got)
        notifier.close()
        store.settle()
    time.sleep(0.2)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("urls", "webhooks", "said"),
    [(["nonsense"], [], "knows no service"), ([], ["https://x"], "there is no secret")],
)
def test_what_cannot_work_is_refused_at_the_start(urls, webhooks, said):
    with pytest.raises(ConfigError, match=said):
        targets(urls, webhooks, None)


def test_a_secret_that_others_can_read_is_none(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        targets([], ["https://x"], file)
    file.chmod(0o600)
    assert len(targets([], ["https://x"], file)) == 1


def test_a_configuration_with_passwords_to_people_is_for_nobody_else(tmp_path):
    file = tmp_path / "estop.toml"
    file.write_text("notify = ['json://user:password@127.0.0.1']")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read") as told:
        targets(["json://user:password@127.0.0.1"], [], None, config=file)
    assert told.value.mend == f"chmod 600 {file}"
    assert targets([], [], None, config=file) == []
    file.chmod(0o600)
    assert len(targets(["json://user:password@127.0.0.1"], [], None, config=file)) == 1
