"""One rank's share of a benchmark: which problems it answers, chunk by chunk, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from luffy_pl.data.seeds import keyed_seed
from luffy_pl.experience.benchmarks import Benchmark
from luffy_pl.records import Group, Prompt


@dataclass(frozen=True)
class Share:
    """Every rank has the same number of chunks; the last ones may hold a problem less, or none.

    problems: those of the whole benchmark.
    known: groups that an earlier start of this evaluation left, by problem id; they are not
        sampled again.
    """

    benchmark: Benchmark
    problems: Sequence[Prompt]
    known: Mapping[str, Group]
    answers_per_chunk: int
    rank: int = 0
    num_ranks: int = 1

    @property
    def index(self) -> range:
        """The rank's problems by their place in the benchmark."""
        return range(len(self.problems))[self.rank :: self.num_ranks]

    @property
    def problems_per_chunk(self) -> int:
        """Problems of one rank in a chunk; a problem is never split."""
        return max(1, self.answers_per_chunk // self.benchmark.samples_per_problem)

    @property
    def num_chunks(self) -> int:
        """The same on every rank."""
        return -(-len(self.problems) // (self.problems_per_chunk * self.num_ranks))

    def chunk(self, step: int) -> range:
        """Places of the problems of one chunk."""
        first = step * self.problems_per_chunk
        return self.index[first : first + self.problems_per_chunk]

    def missing(self, step: int) -> list[Prompt]:
        """Problems of one chunk that have to be sampled."""
        chunk = [self.problems[place] for place in self.chunk(step)]
        return [problem for problem in chunk if problem.id not in self.known]

    def groups(self, step: int, fresh: Sequence[Group]) -> tuple[Group, ...]:
        """All groups of one chunk, in the order of the benchmark."""
        found = {**self.known, **{group.prompt.id: group for group in fresh}}
        return tuple(found[self.problems[place].id] for place in self.chunk(step))

    def seeds(self, problems: Sequence[Prompt], *, seed: int) -> list[list[int]]:
        """A seed for each answer; it depends on nothing but run, benchmark, problem and sample."""
        return [
            [
                keyed_seed(seed, "evaluation", self.benchmark.name, problem.id, sample)
                for sample in range(self.benchmark.samples_per_problem)
            ]
            for problem in problems
        ]

    @property
    def num_answers(self) -> int:
        """Answers of this rank to the whole benchmark."""
        return len(self.index) * self.benchmark.samples_per_problem

    def num_done(self, step: int) -> int:
        """Answers that are there when chunk `step` begins: the known ones count from the start."""
        sampled = step * self.problems_per_chunk
        done = [
            number < sampled or self.problems[place].id in self.known
            for number, place in enumerate(self.index)
        ]
        return sum(done) * self.benchmark.samples_per_problem
