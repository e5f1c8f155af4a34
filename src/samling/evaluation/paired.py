"""Paired: one method against the others on the same images, with corrected tests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from samling.evaluation.formats import signed
from samling.evaluation.report import Table
from samling.evaluation.run import Row
from samling.evaluation.statistics import Interval, MeanOver, holm, least_p, paired_test
from samling.evaluation.tables import describe, means_are

LEVEL = 0.05
"""Corrected p below which two methods are called different."""


@dataclass(frozen=True)
class Compared:
    """A method against another under one protocol, by Dice (by clicks under `noc`).

    Args:
        change: mean difference, method minus other, with its interval.
        images, groups: how many carry it.
        wilcoxon, permutation: two-sided p-values; ..._holm: corrected over `family` comparisons.
    """

    protocol: str
    method: str
    other: str
    measure: str
    images: int
    groups: int
    change: Interval
    wilcoxon: float
    permutation: float
    wilcoxon_holm: float
    permutation_holm: float
    family: int = 1

    @property
    def verdict(self) -> str:
        """In words, by the corrected permutation test; few groups allow no small p among many tests."""
        if self.permutation_holm >= LEVEL:
            few = self.family * least_p(self.groups) >= LEVEL
            return "too few groups to tell" if few else "not clearly apart"
        more = self.change.mean > 0
        return "better" if more == (self.measure == "dice") else "worse"


def compare_methods(
    rows: Sequence[Row], method: str, seed: int = 0, over: MeanOver = "image"
) -> list[Compared]:
    """Test one method against every other one under every protocol, on the images both answered.

    All of these tests are one family: Holm's correction is over all of them together.

    Args:
        rows: of several methods; an id names the same image and prompt everywhere.
        method: the one that the others are compared with.
        seed: of bootstrap and permutations.
        over: whether every image or every patient weighs the same.
    """
    values: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        if row.counted:
            values.setdefault((row.protocol, row.method), {})[row.id] = row
    found = []
    for (protocol, other), theirs in values.items():
        own = values.get((protocol, method), {})
        ids = [id for id in own if id in theirs]
        if other == method or not ids:
            continue
        measure = "clicks" if protocol.startswith("noc") else "dice"
        first, second = ([getattr(side[id], measure) for id in ids] for side in (own, theirs))
        test = paired_test(first, second, [own[id].group for id in ids], seed, over=over)
        found.append(
            Compared(
                protocol=protocol,
                method=method,
                other=other,
                measure=measure,
                images=len(ids),
                groups=test.groups,
                change=test.change,
                wilcoxon=test.wilcoxon,
                permutation=test.permutation,
                wilcoxon_holm=test.wilcoxon,
                permutation_holm=test.permutation,
            )
        )
    return corrected(found)


def corrected(tests: Sequence[Compared]) -> list[Compared]:
    """The same tests as one family: Holm's correction over all of them together."""
    wilcoxon, permutation = holm([t.wilcoxon for t in tests]), holm([t.permutation for t in tests])
    return [
        replace(test, wilcoxon_holm=first, permutation_holm=second, family=len(tests))
        for test, first, second in zip(tests, wilcoxon, permutation, strict=True)
    ]


def paired_table(tests: Sequence[Compared], over: MeanOver = "image") -> Table | None:
    """Differences with intervals and corrected p-values; None without any."""
    if not tests:
        return None
    header = ("Prompt", "Against", "Change (95% interval)", "Wilcoxon p", "Permutation p", "Groups",
              "Verdict")  # fmt: skip
    rows = tuple(
        (
            describe(test.protocol),
            test.other,
            _change(test),
            _p(test.wilcoxon_holm),
            _p(test.permutation_holm),
            str(test.groups),
            test.verdict,
        )
        for test in tests
    )
    caption = (
        f"{tests[0].method} minus the other on the same images, in Dice points (in clicks where "
        f"clicks are counted). {means_are(over)} Two-sided p, Holm-corrected over all "
        f"{tests[0].family} comparisons; groups (patients) are exchanged whole. The verdict is the "
        f"permutation test's at {LEVEL:g}."
    )
    return Table(header, rows, caption, text_columns=(0, 1, 6))


def _change(test: Compared) -> str:
    scale, unit = (100, "") if test.measure == "dice" else (1, " clicks")
    mean, low, high = (
        signed(scale * value) for value in (test.change.mean, test.change.low, test.change.high)
    )
    return f"{mean}{unit} ({low} to {high})"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
