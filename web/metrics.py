"""`/metrics` in the text format of Prometheus: what came in through this process, and what waits in the database."""

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from db.app import App
from db.gauges import gauges

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Waiting(Collector):
    def __init__(self, app: App, webhooks: Mapping[tuple[str, int], int]) -> None:
        self._app = app
        self._webhooks = webhooks

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        webhooks = CounterMetricFamily(
            "afterglow_webhooks",
            "Webhooks answered by this process, by source and status; 2xx are accepted.",
            labels=["source", "status"],
        )
        for (source, status), count in sorted(self._webhooks.items()):
            webhooks.add_metric([source, str(status)], count)
        yield webhooks
        with self._app.reading() as connection:
            found = gauges(connection, self._app.clock.now(connection))
        for table, about in (
            ("inbox", "Elements of webhooks that are not settled"),
            ("enrollments", "Open runs of flows"),
            ("touchpoints", "Messages that are not settled, or in doubt"),
        ):
            family = GaugeMetricFamily(f"afterglow_{table}", f"{about}, by state.", labels=["state"])
            for (of, state), count in found.counts.items():
                if of == table:
                    family.add_metric([state], count)
            yield family
        lag = GaugeMetricFamily("afterglow_lag_seconds", "Age of the oldest due row.", labels=["table"])
        for table, seconds in found.lag_s.items():
            lag.add_metric([table], seconds)
        yield lag
        alarms = GaugeMetricFamily(
            "afterglow_alarms", "Alarms that are on, by source and kind: silence, drift.", labels=["source", "kind"]
        )
        for (source, kind), count in sorted(found.alarms.items()):
            alarms.add_metric([source, kind], count)
        yield alarms


def metrics(app: App, webhooks: Counter[tuple[str, int]]) -> bytes:
    """Everything, now."""
    registry = CollectorRegistry()
    registry.register(_Waiting(app, webhooks))
    return generate_latest(registry)
