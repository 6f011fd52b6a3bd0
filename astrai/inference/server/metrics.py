"""Figures for Prometheus: what the server counts itself, and what the engine says when it is asked.

Each server has a registry of its own, so several can run in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from astrai.inference.engine import EngineStats

TTFT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
GAP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counters and histograms of one server. ``stats`` gives the engine's, or ``None`` while there is no engine."""

    def __init__(self, stats: Callable[[], EngineStats | None]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_EngineFigures(stats))
        self._http = Counter(
            "astrai_http_requests", "HTTP requests that were answered", ("route", "status"), registry=self.registry
        )
        self._choices = Counter(
            "astrai_choices", "Choices that ended, by finish reason", ("finish_reason",), registry=self.registry
        )
        self._ttft = Histogram(
            "astrai_time_to_first_token_seconds",
            "From the submit to the first token",
            buckets=TTFT_BUCKETS,
            registry=self.registry,
        )
        self._gap = Histogram(
            "astrai_inter_token_seconds", "Between two tokens of a choice", buckets=GAP_BUCKETS, registry=self.registry
        )

    def count_http(self, route: str, status: int) -> None:
        """One answered HTTP request."""
        self._http.labels(route, str(status)).inc()

    def count_choice(self, finish_reason: str, token_times: Sequence[float]) -> None:
        """One choice that ended, with the seconds from its submit to each of its tokens."""
        self._choices.labels(finish_reason).inc()
        if token_times:
            self._ttft.observe(token_times[0])
        for earlier, later in pairwise(token_times):
            self._gap.observe(later - earlier)

    def to_text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self.registry)


class _EngineFigures(Collector):
    """Read when somebody looks, so that they cost nothing in between."""

    def __init__(self, stats: Callable[[], EngineStats | None]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        if stats is None:
            return
        yield GaugeMetricFamily("astrai_engine_alive", "1 while the engine's loop runs", float(stats.alive))
        yield GaugeMetricFamily("astrai_requests_waiting", "Requests in the queue", stats.waiting)
        yield GaugeMetricFamily("astrai_requests_running", "Requests that own a slot", stats.running)
        yield GaugeMetricFamily("astrai_slots", "Rows of the KV cache", stats.num_slots)
        yield GaugeMetricFamily("astrai_slots_in_use", "Rows that a request owns", stats.num_slots - stats.free_slots)
        yield GaugeMetricFamily("astrai_prefix_hit_ratio", "Share of prompt tokens found in the cache", stats.hit_rate)
        yield GaugeMetricFamily("astrai_prefix_tree_tokens", "Tokens in the prefix cache", stats.tree_tokens)
        yield CounterMetricFamily("astrai_steps", "Turns of the engine's loop", stats.steps)
        yield CounterMetricFamily("astrai_prompt_tokens_computed", "Prompt tokens computed", stats.prefilled_tokens)
        yield CounterMetricFamily(
            "astrai_prompt_tokens_cached", "Prompt tokens found in the cache", stats.cached_tokens
        )
        yield CounterMetricFamily("astrai_tokens_decoded", "Tokens decoded after the first", stats.decoded_tokens)
        yield CounterMetricFamily("astrai_requests_rejected", "Requests refused by the engine", stats.rejected)
        finished = CounterMetricFamily("astrai_requests_finished", "Requests of the engine", labels=("finish_reason",))
        for reason, count in stats.finished.items():
            finished.add_metric((reason,), count)
        yield finished
