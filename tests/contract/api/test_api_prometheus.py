# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus reads the metrics, and what we ship for it names only metrics that there are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitor.control import TokenRequest
from monitor.incidents import Role
from monitor.metrics import Metrics

PROJECT = Path(__file__).parents[3]
PROMETHEUS = PROJECT / "deploy" / "prometheus"
GRAFANA = PROJECT / "deploy" / "grafana"
_START_S = 30.0
_METRIC = re.compile(r"\b(estop[:_][a-z0-9_:]+|process_[a-z_]+)\b")


def program(name):
    """The host's, or the one that `make setup-e2e` unpacked."""
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), f"{PROJECT}/build/prometheus"))
    return shutil.which(name, path=places)


pytestmark = pytest.mark.skipif(
    program("promtool") is None, reason="no Prometheus: `make setup-e2e` brings it"
)


def promtool(*arguments, **kwargs):
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def exposed():
    """Names of all samples, as a fresh monitor shows them and as one with labels would."""
    metrics = Metrics()
    for metric in vars(metrics).values():
        if getattr(metric, "_labelnames", None):
            metric.labels(*["x" for _ in metric._labelnames])
    metrics.build.info({"version": "0", "tier": "x"})
    text = metrics.exposition().decode()
    families = text_string_to_metric_families(text)
    return text, {sample.name for family in families for sample in family.samples}


def test_the_rules_are_valid_and_fire_when_they_should(tmp_path):
    promtool("check", "rules", PROMETHEUS / "estop.rules.yml")
    for file in (PROMETHEUS / "estop.rules.yml", Path(__file__).with_name("prometheus_rules.yml")):
        shutil.copy(file, tmp_path)
    promtool("test", "rules", tmp_path / "prometheus_rules.yml")


def test_names_follow_the_conventions():
    text, _ = exposed()
    # Buckets and process_* are the client library's own.
    assert promtool("check", "metrics", input=text) == ""


@pytest.mark.parametrize("file", [PROMETHEUS / "estop.rules.yml", GRAFANA / "estop.json"])
def test_every_metric_that_is_asked_for_is_there(file):
    _, names = exposed()
    text = file.read_text()
    recorded = set(re.findall(r"record: (\S+)", (PROMETHEUS / "estop.rules.yml").read_text()))
    asked = set(_METRIC.findall(text)) - recorded
    assert len(asked) > 8
    assert asked <= names


def test_every_metric_of_ours_is_on_the_dashboard_or_in_a_rule():
    _, names = exposed()
    shown = (GRAFANA / "estop.json").read_text() + (PROMETHEUS / "estop.rules.yml").read_text()
    ours = {
        n
        for n in names
        if n.startswith("estop_") and not n.endswith(("_created", "_sum", "_count"))
    }
    left_out = {name for name in ours if name not in shown}
    assert left_out <= {
        "estop_rules_loaded",
        "estop_correlation_groups_forgotten_total",
        "estop_grants_in_force",
        "estop_notices_total",
    }


def test_the_dashboard_is_what_its_code_makes():
    made = subprocess.run(
        [sys.executable, str(GRAFANA / "dashboard.py")], check=True, capture_output=True, text=True
    )
    assert json.loads(made.stdout) == json.loads((GRAFANA / "estop.json").read_text())


@contextmanager
def prometheus(tmp_path, api):
    """A real one with the configuration we ship, but for the port, the token's file and the pace."""
    token = api.tokens.create(TokenRequest(name="prometheus", role=Role.VIEWER), who="a test")
    (tmp_path / "token").write_text(token.secret)
    shutil.copy(PROMETHEUS / "estop.rules.yml", tmp_path)
    config = (PROMETHEUS / "prometheus.yml").read_text()
    for shipped, here in (
        ("127.0.0.1:7878", "{}:{}".format(*api.server.address)),
        ("/etc/prometheus/estop.token", str(tmp_path / "token")),
        ("scrape_interval: 15s", "scrape_interval: 1s\n  evaluation_interval: 1s"),
    ):
        assert shipped in config
        config = config.replace(shipped, here)
    (tmp_path / "prometheus.yml").write_text(config)
    promtool("check", "config", tmp_path / "prometheus.yml")
    log = (tmp_path / "log").open("w")
    words = [
        *(program("prometheus"), f"--config.file={tmp_path}/prometheus.yml"),
        *(f"--storage.tsdb.path={tmp_path}/data", "--web.listen-address=127.0.0.1:0"),
    ]
    running = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        yield _address(tmp_path / "log", running)
    finally:
        running.terminate()
        running.wait(30)
        log.close()


def _address(log, running):
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and running.poll() is None:
        found = re.search(r"Listening on.*address=(\S+:\d+)", log.read_text())
        if found and "ready to receive" in log.read_text():
            return found[1]
        time.sleep(0.1)
    pytest.fail(log.read_text())


def _ask(address, query):
    answer = httpx.get(f"http://{address}/api/v1/query", params={"query": query}).json()
    return answer["data"]["result"]


def test_a_real_prometheus_scrapes_it_with_a_viewers_token(api, tmp_path):
    with prometheus(tmp_path, api) as address:
        deadline = time.monotonic() + _START_S
        # The second scrape sees the first one counted.
        while not (found := _ask(address, 'estop_api_requests_total{route="/metrics"}')):
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        assert found[0]["metric"]["status"] == "200"
        assert _ask(address, 'up{job="estop"}')[0]["value"][1] == "1"
        rules = httpx.get(f"http://{address}/api/v1/rules").json()["data"]["groups"]
        assert {group["name"] for group in rules} == {"estop.records", "estop.alerts"}
        broken = [r for group in rules for r in group["rules"] if r["health"] == "err"]
        assert broken == []
