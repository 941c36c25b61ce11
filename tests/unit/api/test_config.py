# SPDX-License-Identifier: Apache-2.0
"""Settings come from four places, the strongest wins, and a wrong one is named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from monitor.config import bundled_rules, load
from monitor.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("ESTOP_"):
            monkeypatch.delenv(name)


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "estop.toml"
        path.write_text(text)
        return path

    return write


def test_defaults_are_the_installed_places():
    settings = load()
    assert settings.socket_path == Path("/run/estop/estop.sock")
    assert settings.database_path == Path("/var/lib/estop/alerts.db")
    assert settings.address == ("127.0.0.1", 7878)
    assert settings.rules == (bundled_rules(),)
    assert settings.cgroup_name == "estop"


def test_command_line_beats_environment_beats_file_beats_default(toml, monkeypatch):
    file = toml("history_events = 1\ndisarm_stops = 1\nevents_ring_mib = 1\n")
    monkeypatch.setenv("ESTOP_HISTORY_EVENTS", "2")
    monkeypatch.setenv("ESTOP_DISARM_STOPS", "2")
    settings = load(file, history_events=3)
    assert (settings.history_events, settings.disarm_stops, settings.events_ring_mib) == (3, 2, 1)
    assert settings.freeze_deadline_ms == 1000


def test_the_file_can_be_named_by_the_environment(toml, monkeypatch):
    monkeypatch.setenv("ESTOP_CONFIG", str(toml("history_events = 7\n")))
    assert load().history_events == 7


def test_what_was_not_given_on_the_command_line_does_not_hide_the_rest(toml):
    assert load(toml('listen = ""\n'), listen=None).address is None


def test_lists_have_a_form_in_every_source(toml, monkeypatch):
    file = toml('rules = ["/a", "/b"]\npayment_addresses = ["192.0.2.1"]\n')
    assert load(file).rules == (Path("/a"), Path("/b"))
    assert load(file).payment_addresses == ("192.0.2.1/32",)
    monkeypatch.setenv("ESTOP_RULES", "/c:/d")
    monkeypatch.setenv("ESTOP_PAYMENT_ADDRESSES", "198.51.100.0/24, 2001:db8::1")
    assert load(file).rules == (Path("/c"), Path("/d"))
    assert load(file).payment_addresses == ("198.51.100.0/24", "2001:db8::1/128")
    assert load(file, rules=(Path("/e"),)).rules == (Path("/e"),)


def test_relative_directories_are_made_absolute():
    assert load(state_dir=Path("here")).state_dir == Path.cwd() / "here"


def test_two_runtime_directories_have_two_cgroups():
    names = {load(runtime_dir=Path(f"/tmp/{name}")).cgroup_name for name in "ab"}
    assert len(names) == 2
    assert all(name.startswith("estop-") and len(name) == 16 for name in names)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("127.8.9.1:1", ("127.8.9.1", 1)),
        ("localhost:80", ("127.0.0.1", 80)),
        ("[::1]:7878", ("::1", 7878)),
        ("", None),
    ],
)
def test_loopback_can_be_spelt_in_many_ways(listen, address):
    assert load(listen=listen).address == address


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"listen": "0.0.0.0:80"}, "listen: '0.0.0.0' is not a loopback address"),
        ({"listen": ":80"}, "listen: '' is not a loopback address"),
        ({"listen": "example.org:80"}, "not a loopback address"),
        ({"listen": "127.0.0.1"}, "is not HOST:PORT"),
        ({"listen": "127.0.0.1:70000"}, "is not HOST:PORT"),
        ({"events_ring_mib": 3}, "events_ring_mib: 3 is not a power of two"),
        ({"freeze_deadline_ms": 0}, "freeze_deadline_ms"),
        ({"payment_addresses": ["nowhere"]}, "payment_addresses"),
        ({"rules": ()}, "rules: names no directory"),
        ({"listne": "x"}, "listne: no such setting"),
    ],
)
def test_an_unusable_setting_is_named(given, named):
    with pytest.raises(ConfigError) as caught:
        load(**given)
    assert named in str(caught.value)


def test_every_unusable_setting_is_named_at_once(toml):
    file = toml('listne = "x"\ndisarm_stops = 0\n')
    with pytest.raises(ConfigError) as caught:
        load(file, listen="x")
    assert all(name in str(caught.value) for name in ("listne", "disarm_stops", "listen"))
    assert str(file) in caught.value.mend


def test_a_misspelt_environment_variable_is_named(monkeypatch):
    monkeypatch.setenv("ESTOP_STATEDIR", "/tmp/x")
    with pytest.raises(ConfigError, match="ESTOP_STATEDIR") as caught:
        load()
    assert "ESTOP_STATE_DIR" in caught.value.mend


def test_a_file_that_is_missing_or_no_toml_is_named(toml, tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="line 1"):
        load(toml("listen = ]"))


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        load().listen = ""


def test_where_the_monitor_is_told_what_to_do_is_its_own(toml):
    own = load(toml('notice_templates = "/srv/words"\n')).own_directories
    assert {Path("/etc/estop"), Path("/var/lib/estop"), Path("/run/estop"), bundled_rules()} < {
        *own
    }
    assert Path("/srv/words") in own


def test_what_runs_at_the_next_start_is_its_own(monkeypatch):
    tree = Path(__file__).parents[3]
    code = {tree / "monitor", tree / "agent", tree / "bpf"}
    monkeypatch.setattr(sys, "prefix", "/opt/estop")
    assert {*code, Path("/opt/estop")} <= {*load().own_directories}
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)  # packages of the system are everybody's
    own = {*load().own_directories}
    assert code <= own
    assert Path(sys.base_prefix) not in own


def test_a_configuration_is_a_secret_once_it_names_whom_to_tell(toml):
    file = toml("deadman_ms = 5000\n")
    assert load(file).own_secrets == (Path("/var/lib/estop/alerts.db"),)
    file = toml('notify = ["mailto://a:b@c"]\nwebhook_secret_file = "/etc/estop/secret"\n')
    assert {*load(file).own_secrets} >= {file, Path("/etc/estop/secret")}


def test_what_is_compiled_is_kept_in_the_state_directory_or_where_it_is_told_and_guarded_there():
    assert load(state_dir=Path("/s")).compiled_dir == Path("/s/headers")
    settings = load(cache_dir=Path("/c"))
    assert settings.compiled_dir == Path("/c")
    assert Path("/c") in settings.own_directories
