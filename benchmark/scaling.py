"""Images per second of 1, 8 and 64 cards, calculated from measured costs; docs/scaling.md explains the model.

A step takes as long as the slower of two things that run beside each other: the host making a batch, and the
card computing on the one before, with what communication adds to it.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """What one rank measures.

    Attributes:
        card_images_per_s: of one card with resident data (`tools/benchmark.py step`).
        host_ms: milliseconds of one core per training image (`tools/benchmark.py data`).
        batch: images per card and step.
        gradient_bytes: averaged between the ranks in each step.
        collectives: calls per step: gradient buckets, and the loss normaliser.
    """

    card_images_per_s: float
    host_ms: float
    batch: int
    gradient_bytes: int
    collectives: int = 3


@dataclass(frozen=True)
class Cluster:
    """What the machines are; the defaults are cautious assumptions.

    Attributes:
        cards_per_host: cards in one machine.
        cores_per_card: of the host. One of them runs the training process, the others make batches.
        link_gb_s: bandwidth that one card reaches in a ring inside the machine, 10^9 bytes per second.
        network_gb_s: bandwidth of one machine's network.
        latency_us: of one hop of a collective.
        overlap: part of the gradients' transfer that is hidden behind the backward pass. Models of this size
            fit into two of torch's buckets; the second leaves when the backward pass is over.
        jitter: standard deviation of a step's time between ranks, as a part of it; all wait for the slowest.
    """

    cards_per_host: int = 8
    cores_per_card: float = 16
    link_gb_s: float = 15.0
    network_gb_s: float = 10.0
    latency_us: float = 30.0
    overlap: float = 0.0
    jitter: float = 0.02


@dataclass(frozen=True)
class ClusterForecast:
    """One row of the table.

    Attributes:
        cards: how many.
        images_per_s: of all together.
        efficiency: against `cards` times the rate of a single card that never waits for the host.
        limit: "host" or "cards": what a faster one of would help.
        reduce_ms: averaging gradients, per step, before overlap.
        cores_needed: per card, for the host not to be the limit.
    """

    cards: int
    images_per_s: float
    efficiency: float
    limit: str
    reduce_ms: float
    cores_needed: float


def forecast(cards: int, costs: Costs, cluster: Cluster) -> ClusterForecast:
    """Calculate a training step of `cards` cards, each with `costs.batch` images."""
    alone_s = costs.batch / costs.card_images_per_s
    reduce_s = ring_s(costs.gradient_bytes, cards, cluster)
    card_s = alone_s * (1 + slowest_of(cards, cluster.jitter)) + reduce_s * (1 - cluster.overlap)
    card_s += costs.collectives * hops(cards) * cluster.latency_us * 1e-6
    core_s = costs.batch * costs.host_ms * 1e-3  # one core's work for a batch
    workers = cluster.cores_per_card - 1
    host_s = core_s / workers if workers > 0 else math.inf
    step_s = max(card_s, host_s)
    return ClusterForecast(
        cards=cards,
        images_per_s=cards * costs.batch / step_s,
        efficiency=alone_s / step_s,
        limit="host" if host_s > card_s else "cards",
        reduce_ms=1000 * reduce_s,
        cores_needed=core_s / card_s + 1,
    )


def ring_s(num_bytes: int, cards: int, cluster: Cluster) -> float:
    """Return the seconds of an all-reduce: a ring in each machine, and one between the machines.

    A ring of n moves 2 (n - 1) / n of the bytes over each link (Patarasuk and Yuan, 2009).
    """
    inside = min(cards, cluster.cards_per_host)
    hosts = math.ceil(cards / cluster.cards_per_host)
    inside_s = 2 * (inside - 1) / inside * num_bytes / (cluster.link_gb_s * 1e9)
    between_s = 2 * (hosts - 1) / hosts * num_bytes / (cluster.network_gb_s * 1e9)
    return inside_s + between_s


def hops(cards: int) -> int:
    """Return the depth of a tree over the cards: 0 for one."""
    return math.ceil(math.log2(cards)) if cards > 1 else 0


def slowest_of(cards: int, jitter: float) -> float:
    """Return by how much the slowest exceeds the mean: sqrt(2 ln n) deviations, for normal times."""
    return jitter * math.sqrt(2 * math.log(cards)) if cards > 1 else 0.0
