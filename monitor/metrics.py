# SPDX-License-Identifier: Apache-2.0
"""What Prometheus sees: counters and histograms in base units; it must not label by pid or path.

Every monitor has its own registry, so that two in one process do not count for each other.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_STOP_SECONDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
)
"""100 us to 2 s: from a stop nobody notices to one that ran into the freeze deadline."""

_VERDICT_SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1)


class Metrics:
    """The metrics of one monitor; stages take it as an argument and count where things happen."""

    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.events = Counter(
            "estop_events", "Events received from the kernel.", ["kind"], registry=registry
        )
        self.events_lost = Counter(
            "estop_events_lost",
            "Events that were not sent, not judged or over a budget.",
            ["hook"],
            registry=registry,
        )
        self.alerts = Counter(
            "estop_alerts", "Alerts raised.", ["rule", "response"], registry=registry
        )
        self.stops = Counter(
            "estop_stops", "Stops by what came of them.", ["action"], registry=registry
        )
        self.stop_seconds = Histogram(
            "estop_stop_seconds",
            "From the act to the confirmed freeze.",
            buckets=_STOP_SECONDS,
            registry=registry,
        )
        self.verdict_seconds = Histogram(
            "estop_verdict_seconds",
            "From the act to the rules' verdict.",
            buckets=_VERDICT_SECONDS,
            registry=registry,
        )
        self._gauges(registry)
        self._desk(registry)
        # Processor time and memory of the monitor itself: what the protection costs.
        ProcessCollector(registry=registry)

    def _gauges(self, registry: CollectorRegistry) -> None:
        self.sessions = Gauge("estop_sessions", "Sessions by state.", ["state"], registry=registry)
        self.programs_attached = Gauge(
            "estop_programs_attached", "BPF programs that are attached.", registry=registry
        )
        self.programs_expected = Gauge(
            "estop_programs_expected", "BPF programs that should be attached.", registry=registry
        )
        self.store_queue_rows = Gauge(
            "estop_store_queue_rows", "Rows that wait for the disk.", registry=registry
        )
        self.store_dropped = Counter(
            "estop_store_dropped", "Rows lost because the queue was full.", registry=registry
        )
        self.rules_loaded = Gauge("estop_rules_loaded", "Rules in force.", registry=registry)
        self.rule_errors = Counter(
            "estop_rule_errors", "Rules that failed while they ran.", registry=registry
        )
        self.groups_forgotten = Counter(
            "estop_correlation_groups_forgotten",
            "Groups of correlations that gave way to newer ones.",
            registry=registry,
        )

        self.beat_age_seconds = Gauge(
            "estop_beat_age_seconds",
            "Since the kernel last heard from the pipeline: the dead-man switch watches this.",
            registry=registry,
        )
        self.opens_late = Counter(
            "estop_opens_late",
            "Opens that were not judged in time: fail_mode decided.",
            registry=registry,
        )
        self.build = Info("estop_build", "Version and tier.", registry=registry)

    def _desk(self, registry: CollectorRegistry) -> None:
        self.incidents_open = Gauge(
            "estop_incidents_open", "Stops that wait for a person.", registry=registry
        )
        self.grants_in_force = Gauge(
            "estop_grants_in_force", "Grants that hold now.", registry=registry
        )
        self.api_requests = Counter(
            "estop_api_requests",
            "Requests to the API by what came of them.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.api_followers = Gauge(
            "estop_api_followers", "Streams that are followed now.", registry=registry
        )
        self.notices = Counter(
            "estop_notices",
            "Notices to people and webhooks by what came of them.",
            ["target", "result"],
            registry=registry,
        )
        self.notices_waiting = Gauge(
            "estop_notices_waiting", "Notices that were not delivered yet.", registry=registry
        )

    def exposition(self) -> bytes:
        """The text of `GET /metrics`, of type `CONTENT_TYPE`."""
        return generate_latest(self.registry)
