"""What was measured, as numbers with their goal and their reference."""

import statistics
from dataclasses import dataclass, field
from typing import Literal

type Verdict = Literal["reached", "missed", "unclear", "not run", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the report.

    Attributes:
        what: What was measured.
        unit: Of the value: ``ms``, ``us``, ``KiB``, ``MiB``, ``%``, ``/s``; empty for a number or ratio.
        p50: The median; ``None`` when it was not run. Of a benchmark in rounds: the median of their medians.
        p99: The 99th percentile of all samples; ``None`` where it says nothing.
        low: The lowest and
        high: the highest of the rounds' medians; of a compute ratio, its 95 % interval.
        samples: How many values stand behind it.
        goal: The goal in words; empty for a reference, or for what has none.
        limit: The goal as a value in ``unit``, for the plot.
        verdict: Whether the goal was reached; ``unclear`` when noise hides it; empty without a goal.
        reference: What ``ratio`` compares with.
        ratio: This one divided by the reference; above 1 is slower or larger.
        note: What a reader must know about this line; why, when it was not run.
    """

    what: str
    unit: str
    p50: float | None = None
    p99: float | None = None
    low: float | None = None
    high: float | None = None
    samples: int = 0
    goal: str = ""
    limit: float | None = None
    verdict: Verdict = ""
    reference: str = ""
    ratio: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Something that was watched over a run, for the plot.

    Attributes:
        what: What it is.
        unit: Of the values.
        points: How many calls had ended, and the value then.
    """

    what: str
    unit: str
    points: list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One of the numbers to reach, with everything that was measured for it."""

    name: str
    title: str
    how: str
    rows: list[Row] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


@dataclass(slots=True)
class Series:
    """What one contender gave: a list of values for each round, or the reason why there are none."""

    rounds: list[list[float]] = field(default_factory=list)
    absent: str = ""

    @property
    def medians(self) -> list[float]:
        """The median of each round."""
        return [statistics.median(values) for values in self.rounds]

    @property
    def p50(self) -> float:
        """The median of the rounds' medians: a noisy moment spoils one round, not the figure."""
        return statistics.median(self.medians)

    @property
    def all(self) -> list[float]:
        """Every value, sorted."""
        return sorted(value for values in self.rounds for value in values)


def percentile(ordered: list[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; ``share`` is between 0 and 1."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def ratio(series: Series, reference: Series | None) -> float | None:
    """The median over the rounds of one median by the other, both of the same round."""
    if reference is None or series.absent or reference.absent:
        return None
    pairs = zip(series.medians, reference.medians, strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def median_interval(values: list[float]) -> tuple[float, float]:
    """The 95 % confidence interval of a median, from order statistics (no assumption about the noise)."""
    ordered, count = sorted(values), len(values)
    reach = round(0.98 * count**0.5)  # 1.96 standard deviations of a binomial count with p = 1/2
    middle = count // 2
    return ordered[max(middle - reach, 0)], ordered[min(middle + reach, count - 1)]


def row(
    what: str,
    unit: str,
    series: Series,
    *,
    scale: float,
    goal: str = "",
    limit: float | None = None,
    limit_of: Literal["p50", "ratio"] = "p50",
    reference: tuple[str, Series] | None = None,
    note: str = "",
) -> Row:
    """Make the line of one series.

    Args:
        what: What was measured.
        unit: The unit in which it is shown.
        series: What was measured, in seconds or bytes.
        scale: Factor from there to ``unit``.
        goal: The goal in words.
        limit: The number that the goal sets.
        limit_of: Whether it is set for the value or for the ratio to the reference.
        reference: A name and its series of the same rounds.
        note: What a reader must know.
    """
    if series.absent:
        return Row(what=what, unit=unit, goal=goal, verdict="not run", note=series.absent)
    ordered, medians = series.all, series.medians
    judged: float | None
    by = ratio(series, reference[1]) if reference else None
    judged, shown = series.p50 * scale, limit
    if limit_of == "ratio":
        judged, shown = by, limit * reference[1].p50 * scale if by and limit and reference else None
    return Row(
        what=what,
        unit=unit,
        p50=series.p50 * scale,
        p99=percentile(ordered, 0.99) * scale,
        low=min(medians) * scale,
        high=max(medians) * scale,
        samples=len(ordered),
        goal=goal,
        limit=shown,
        verdict=judge(judged, limit),
        reference=reference[0] if reference and by is not None else "",
        ratio=by,
        note=note,
    )


def judge(value: float | None, limit: float | None) -> Verdict:
    """Whether a value is within its limit; empty without one, ``not run`` without a value."""
    if limit is None:
        return ""
    if value is None:
        return "not run"
    return "reached" if value <= limit else "missed"
