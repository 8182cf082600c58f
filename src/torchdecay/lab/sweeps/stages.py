"""The stages of a sweep: what a batch of candidates measured decides the next batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from torchdecay.lab.engines.runs import Runs
from torchdecay.lab.jobs.job import Job
from torchdecay.lab.sweeps.arrivals import Arrivals
from torchdecay.lab.sweeps.halving import Halving
from torchdecay.lab.sweeps.racing import rounds_of, still_racing
from torchdecay.lab.sweeps.search import Candidate, Scores, Search
from torchdecay.lab.sweeps.trials import TrialMaker
from torchdecay.lab.training.trial import Trial


def planned_runs(search: Search, maker: TrialMaker, seeds: tuple[int, ...]) -> int:
    """How many runs there will be, where a search adds to what it has asked for; else 0."""
    if search.values is not None or maker.num_values > 1 or search.kind == "halving" or search.race:
        return 0
    return len(seeds) * len(search.lr_scales) * (search.points + 1)


def run_stages(
    search: Search, maker: TrialMaker, seeds: tuple[int, ...], runs: Runs, rungs: tuple[int, ...] = ()
) -> None:
    """Run stage after stage until the search has nothing more to ask; where it halves a task, at these rungs."""
    tried: list[Candidate] = []
    batches = search.batches(maker.num_values)
    with suppress(StopIteration):
        batch = next(batches)
        while True:
            new = [one for one in dict.fromkeys(batch) if one not in tried]
            bare = [] if tried else [Candidate((), scale) for scale in search.lr_scales]
            tried += new
            racing = new
            for some in rounds_of(seeds) if search.race else [seeds]:
                if some[0] != seeds[0]:
                    # Who has left does not come back for want of the seeds since.
                    racing = _racing(maker, racing, seeds[: seeds.index(some[0])], runs)
                trials = list(_trials_of(maker, [*bare, *racing], some))
                keep, goes_on = None, None
                if search.kind == "halving":
                    known = partial(runs.known, trials)
                    if isinstance(runs.task, Job):
                        goes_on = Arrivals(runs.task, known, search.middle).goes_on
                    else:
                        keep = Halving(rungs, runs.measure, known).keep
                runs.stage(trials, keep, goes_on)
            batch = batches.send(_scores(maker, tried, runs))


def _trials_of(maker: TrialMaker, candidates: Sequence[Candidate], seeds: Sequence[int]) -> Iterator[Trial]:
    """Seed by seed, so that what is finished when it is stopped can be paired."""
    for of_seed in zip(*(maker.trials(one, seeds) for one in candidates), strict=True):
        yield from of_seed


def _racing(maker: TrialMaker, candidates: Sequence[Candidate], seeds: Sequence[int], runs: Runs) -> list[Candidate]:
    """Those that get the next seed."""
    labels = {one: maker.contender(one).label for one in candidates}
    left = still_racing(runs.scores, labels.values(), seeds)
    return [one for one, label in labels.items() if label in left]


def _scores(maker: TrialMaker, candidates: list[Candidate], runs: Runs) -> Scores:
    labels = {one: maker.contender(one).label for one in candidates}
    return {one: runs.scores[label] for one, label in labels.items() if label in runs.scores}
