# SPDX-License-Identifier: Apache-2.0
"""Metrics have the names that dashboards are built on, and no label that an agent can multiply."""

from __future__ import annotations

from monitor.metrics import Metrics

NAMES = {
    "estop_events": ["kind"],
    "estop_events_lost": ["hook"],
    "estop_alerts": ["rule", "response"],
    "estop_stops": ["action"],
    "estop_stop_seconds": [],
    "estop_verdict_seconds": [],
    "estop_sessions": ["state"],
    "estop_programs_attached": [],
    "estop_programs_expected": [],
    "estop_store_queue_rows": [],
    "estop_store_dropped": [],
    "estop_rules_loaded": [],
    "estop_rule_errors": [],
    "estop_correlation_groups_forgotten": [],
    "estop_beat_age_seconds": [],
    "estop_opens_late": [],
    "estop_build": [],
    "estop_incidents_open": [],
    "estop_grants_in_force": [],
    "estop_api_requests": ["method", "route", "status"],
    "estop_api_followers": [],
    "estop_notices": ["target", "result"],
    "estop_notices_waiting": [],
}


def test_names_and_labels_are_the_promised_ones():
    metrics = Metrics()
    found = {
        metric._name: list(metric._labelnames)
        for metric in vars(metrics).values()
        if hasattr(metric, "_labelnames")
    }
    assert found == NAMES


def test_two_monitors_in_one_process_count_apart():
    one, two = Metrics(), Metrics()
    one.events.labels("open").inc()
    assert b'estop_events_total{kind="open"} 1.0' in one.exposition()
    assert b"kind=" not in two.exposition()


def test_a_stop_is_told_apart_from_100_us_to_2_s():
    metrics = Metrics()
    for seconds in (0.00009, 0.0019, 3.0):
        metrics.stop_seconds.observe(seconds)
    text = metrics.exposition()
    assert b'estop_stop_seconds_bucket{le="0.0001"} 1.0' in text
    assert b'estop_stop_seconds_bucket{le="0.002"} 2.0' in text
    assert b'estop_stop_seconds_bucket{le="2.0"} 2.0' in text
