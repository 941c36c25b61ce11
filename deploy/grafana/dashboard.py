# SPDX-License-Identifier: Apache-2.0
"""Makes estop.json, the Grafana dashboard: `dashboard.py > estop.json`.

Read from the top of the page: is anything waiting for a person, is the monitor itself well, how
fast does it stop, what does it see, what does it cost.
"""

from __future__ import annotations

import sys

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

_SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
_HERE = 'instance=~"$instance"'


def _query(expression: str, legend: str) -> Dataquery:
    return Dataquery().expr(expression).legend_format(legend)


def _bad_above(limit: float) -> ThresholdsConfig:
    steps = [Threshold(color="green"), Threshold(value=limit, color="red")]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _number(
    title: str, expression: str, about: str, *, bad: float, unit: str = "short"
) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(_SOURCE)
        .unit(unit)
        .thresholds(_bad_above(bad))
        .with_target(_query(expression, "{{instance}}"))
        .height(4)
        .span(4)
    )


def _curve(
    title: str, queries: list[tuple[str, str]], about: str, *, unit: str = "short"
) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(_SOURCE)
        .unit(unit)
        .min(0)
        .show_points(VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(show_legend=True))
        .height(8)
        .span(12)
    )
    for expression, legend in queries:
        panel = panel.with_target(_query(expression, legend))
    return panel


_NUMBERS = [
    _number(
        "Waiting for a person",
        f"estop_incidents_open{{{_HERE}}}",
        "Stopped agents that nobody resumed or killed.",
        bad=1,
    ),
    _number(
        "Sensors missing",
        f"estop_programs_expected{{{_HERE}}} - estop_programs_attached{{{_HERE}}}",
        "BPF programs that should be attached and are not.",
        bad=1,
    ),
    _number(
        "Events lost (1 h)",
        f"sum by (instance) (increase(estop_events_lost_total{{{_HERE}}}[1h]))",
        "What was lost was judged by nobody.",
        bad=1,
    ),
    _number(
        "Last beat",
        f"estop_beat_age_seconds{{{_HERE}}}",
        "Sign of life that the dead-man switch in the kernel waits for.",
        bad=2,
        unit="s",
    ),
    _number(
        "Stops that failed (24 h)",
        f'sum by (instance) (increase(estop_stops_total{{{_HERE},action=~"failed|refused"}}[24h]))',
        "Sessions that a rule stops and that could not be stopped.",
        bad=1,
    ),
    _number(
        "Rows waiting for the disk",
        f"estop_store_queue_rows{{{_HERE}}}",
        "Alerts and actions that are not on disk yet.",
        bad=1000,
    ),
]

_CURVES = {
    "Agents": [
        _curve(
            "Sessions by state",
            [(f"sum by (state) (estop_sessions{{{_HERE}}})", "{{state}}")],
            "Frozen ones wait for a person.",
        ),
        _curve(
            "Alerts by rule",
            [
                (
                    f"topk(10, sum by (rule) (increase(estop_alerts_total{{{_HERE}}}[$__rate_interval])))",
                    "{{rule}}",
                )
            ],
            "The ten rules that fired most; `estop rules explain ID` says what each is.",
        ),
    ],
    "The stop": [
        _curve(
            "Time to stop",
            [
                (
                    (
                        f"histogram_quantile({q}, sum by (le)"
                        f" (rate(estop_stop_seconds_bucket{{{_HERE}}}[$__rate_interval])))"
                    ),
                    f"p{q * 100:g}",
                )
                for q in (0.5, 0.99)
            ],
            "From the act to the confirmed freeze.",
            unit="s",
        ),
        _curve(
            "Time to verdict",
            [
                (
                    (
                        f"histogram_quantile({q}, sum by (le)"
                        f" (rate(estop_verdict_seconds_bucket{{{_HERE}}}[$__rate_interval])))"
                    ),
                    f"p{q * 100:g}",
                )
                for q in (0.5, 0.99)
            ],
            "From the act to the rules' answer.",
            unit="s",
        ),
        _curve(
            "Stops by what came of them",
            [
                (
                    f"sum by (action) (increase(estop_stops_total{{{_HERE}}}[$__rate_interval]))",
                    "{{action}}",
                )
            ],
            "`denied` and `frozen` are what was promised.",
        ),
        _curve(
            "Opens that were not judged in time",
            [(f"increase(estop_opens_late_total{{{_HERE}}}[$__rate_interval])", "{{instance}}")],
            "fail_mode decided these.",
        ),
    ],
    "What it sees": [
        _curve(
            "Events by kind",
            [
                (
                    f"sum by (kind) (rate(estop_events_total{{{_HERE}}}[$__rate_interval]))",
                    "{{kind}}",
                )
            ],
            "As they reach the rules; repeats are counted in the kernel.",
            unit="ops",
        ),
        _curve(
            "Losses by hook",
            [
                (
                    f"sum by (hook) (rate(estop_events_lost_total{{{_HERE}}}[$__rate_interval]))",
                    "{{hook}}",
                )
            ],
            "Events that found their ring full.",
            unit="ops",
        ),
    ],
    "What it costs": [
        _curve(
            "Processor of the monitor",
            [
                (
                    f'rate(process_cpu_seconds_total{{{_HERE},job="estop"}}[$__rate_interval])',
                    "{{instance}}",
                )
            ],
            "1 is one core. What the kernel's side costs is paid by who acts.",
            unit="percentunit",
        ),
        _curve(
            "Memory of the monitor",
            [(f'process_resident_memory_bytes{{{_HERE},job="estop"}}', "{{instance}}")],
            "Resident.",
            unit="bytes",
        ),
        _curve(
            "Queues",
            [
                (f"estop_store_queue_rows{{{_HERE}}}", "rows for the disk"),
                (f"estop_notices_waiting{{{_HERE}}}", "notices to deliver"),
                (f"estop_api_followers{{{_HERE}}}", "streams followed"),
            ],
            "What waits, and who listens.",
        ),
        _curve(
            "API requests by status",
            [
                (
                    f"sum by (status) (rate(estop_api_requests_total{{{_HERE}}}[$__rate_interval]))",
                    "{{status}}",
                )
            ],
            "429 is somebody who asks too often.",
            unit="reqps",
        ),
    ],
}


def dashboard() -> Dashboard:
    """The whole page."""
    page = (
        Dashboard("estop")
        .uid("estop")
        .tags(["estop"])
        .refresh("10s")
        .time("now-1h", "now")
        .with_variable(DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(
            QueryVariable("instance")
            .datasource(_SOURCE)
            .query("label_values(estop_build_info, instance)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(multi=True)
            .include_all(include_all=True)
        )
    )
    for panel in _NUMBERS:
        page = page.with_panel(panel)
    for title, panels in _CURVES.items():
        page = page.with_row(Row(title))
        for curve in panels:
            page = page.with_panel(curve)
    return page


def text() -> str:
    """As Grafana imports it."""
    return JSONEncoder(sort_keys=True, indent=2).encode(dashboard().build()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
