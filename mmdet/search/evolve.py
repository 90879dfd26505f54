"""DamoFD's evolution: mutate a member of the population, drop what exceeds a budget, keep the best scores.

The same seed gives the same result, also when the search was interrupted and resumed. Unlike the published
program it scores no structure twice; `reference_rules` allows repeats.
"""

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from mmdet.errors import ConfigError, unknown_name
from mmdet.models.plainnet.cost import count_flops, count_size
from mmdet.models.plainnet.structure import Structure, count_layers, parse, to_string
from mmdet.search.score import ALPHA, NUM_STAGES
from mmdet.search.space import SPACES, mutate

FEW = 10  # up to so many members the start structure is mutated instead
LOG_INTERVAL = 500
EXACTLY = 1e6 * (1 + 1e-12)  # a budget of 63.135422 MFLOPs admits 63,135,422

Score = Callable[[Structure], float]


@dataclass(frozen=True)
class DdsarSettings:
    """A search of configs/search/ddsar_*.py.

    Attributes:
        base: config whose backbone is searched for; its neck and head stay.
        space: key of SPACES.
        start: structure string to begin with; it may exceed the budgets.
        budget_mflops: million multiply-adds at side x side, shortcuts included, the classifier not.
        budget_size, budget_latency: parameters (with the classifier), milliseconds; None for no limit.
        max_layers: sum of sub_layers.
        side: of the square input image.
        rounds, population: mutations to try, and members to keep.
        alpha: weight of the kernel sizes in DDSAR.
        batch_size, num_classes: of the scores that build a network.
    """

    base: str
    space: str
    start: str
    budget_mflops: float | None = None
    budget_size: float | None = None
    budget_latency: float | None = None
    max_layers: int | None = None
    side: int = 224
    rounds: int = 96_000
    population: int = 512
    alpha: float = ALPHA
    batch_size: int = 64
    num_classes: int = 1000

    def __post_init__(self):
        if self.space not in SPACES:
            raise ConfigError(unknown_name("search.space", self.space, SPACES))
        if self.population <= FEW or self.rounds < 1 or len(parse(self.start, must_chain=False)) < 2:
            raise ConfigError(f"search needs rounds >= 1, a population above {FEW}, two blocks to start with")


class Member(NamedTuple):
    """A structure that was kept."""

    score: float
    structure: Structure


@dataclass
class Evolution:
    """The state of a search; `run` advances it.

    Attributes:
        settings: what is searched.
        score: of a structure, higher is better.
        rng: every draw comes from here.
        reference_rules: score and keep repeats.
        latency: milliseconds of a structure, for budget_latency.
        members: the population.
        outcomes: how many rounds ended how.
        history: (round, best, worst, members) every LOG_INTERVAL rounds.
    """

    settings: DdsarSettings
    score: Score
    rng: random.Random
    reference_rules: bool = False
    latency: Score | None = None
    members: list[Member] = field(default_factory=list)
    seen: set[Structure] = field(default_factory=set)
    outcomes: Counter = field(default_factory=Counter)
    history: list[tuple[int, float, float, int]] = field(default_factory=list)
    round: int = 0

    def __post_init__(self):
        self.nearest: Structure | None = None
        self.start = parse(self.settings.start, must_chain=False)
        self.space = SPACES[self.settings.space]

    def run(self, num_rounds: int, score_all: Callable | None = None, batch: int = 1) -> None:
        """Do num_rounds more rounds.

        Args:
            num_rounds: mutations to try.
            score_all: scores a list of structures, for example in several processes; default one by one.
            batch: children to draw before any of them is scored.
        """
        end = self.round + num_rounds
        while self.round < end:
            children = (self.draw() for _ in range(min(batch, end - self.round)))
            fit = [child for child in children if self.judge(child) is None]
            scores = (score_all or partial(map, self.score))(fit)
            for child, score in zip(fit, scores, strict=True):
                if math.isfinite(score):
                    self.keep(child, score)
                else:
                    self.outcomes["no finite score"] += 1

    def draw(self) -> Structure:
        """Return the next child and count a round."""
        self._log()
        self.round += 1
        if len(self.members) <= FEW:
            return mutate(self.start, self.space, 1, self.rng)
        parent = self.members[int(self.rng.random() * len(self.members))]
        return mutate(parent.structure, self.space, 2, self.rng)

    def judge(self, child: Structure) -> str | None:
        """Return why a child is dropped ("layers", "size", "flops", ...), and count it; None: score it."""
        reason = self.exceeded(child)
        if reason is None and not self.reference_rules:
            reason = "repeat" if child in self.seen else None
            self.seen.add(child)
        if reason:
            self.outcomes[reason] += 1
            if not self.members:  # for the message of a search that finds nothing
                self.nearest = min(self.nearest or child, child, key=self._flops)
        return reason

    def exceeded(self, child: Structure) -> str | None:
        """Return the first limit a structure exceeds; equality is within it."""
        limits = self.settings
        if limits.max_layers is not None and count_layers(child) > limits.max_layers:
            return "layers"
        if limits.budget_size is not None and count_size(child) > limits.budget_size:
            return "size"
        if limits.budget_mflops is not None and self._flops(child) > limits.budget_mflops * EXACTLY:
            return "flops"
        if len(child) != NUM_STAGES:
            return f"not {NUM_STAGES} blocks"
        if limits.budget_latency is not None and self.latency and self.latency(child) > limits.budget_latency:
            return "latency"
        return None

    def keep(self, child: Structure, score: float) -> None:
        """Add a scored child; beyond the population's limit the lowest score goes."""
        self.outcomes["kept"] += 1
        self.members.append(Member(score, child))
        if len(self.members) > self.settings.population:
            scores = [member.score for member in self.members]
            del self.members[scores.index(min(scores))]

    def best(self) -> Member:
        """Return the member of highest score, the first one on ties.

        Raises:
            ConfigError: no child met the budgets; with the nearest structure known.
        """
        if not self.members:
            nearest = self.nearest or self.start
            counts = ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())
            raise ConfigError(
                f"0 of {self.round} children meet the budgets ({counts}); the nearest has "
                f"{self._flops(nearest) / 1e6:.1f} MFLOPs and {count_layers(nearest)} layers: "
                f"{to_string(nearest)}; raise the budget or give a smaller search.start"
            )
        return max(self.members, key=lambda member: member.score)

    def state(self) -> dict:
        """Return what `restore` needs, as plain values."""
        version, numbers, gauss = self.rng.getstate()
        return {
            "round": self.round,
            "rng": [version, list(numbers), gauss],
            "members": [(member.score, to_string(member.structure)) for member in self.members],
            "seen": sorted(map(to_string, self.seen)),
            "outcomes": dict(self.outcomes),
            "history": self.history,
        }

    def restore(self, state: dict) -> None:
        """Continue where `state` was taken."""
        version, numbers, gauss = state["rng"]
        self.rng.setstate((version, tuple(numbers), gauss))
        self.round, self.outcomes = state["round"], Counter(state["outcomes"])
        self.members = [Member(score, parse(text)) for score, text in state["members"]]
        self.seen = set(map(parse, state["seen"]))
        self.history = [tuple(entry) for entry in state["history"]]

    def _flops(self, structure: Structure) -> float:
        return count_flops(structure, self.settings.side)

    def _log(self) -> None:
        if self.round % LOG_INTERVAL == 0 and self.members and self.round:
            scores = [member.score for member in self.members]
            self.history.append((self.round, max(scores), min(scores), len(scores)))
