"""Groups of rows that belong together, such as those of one writer, with rows in several splits."""

import numpy as np

from diagnostics.diagnostic import Diagnostic
from diagnostics.examples import Examples
from diagnostics.finding import Finding, Measure, Question, Remedy, Rows, Table, drop_remedy
from diagnostics.material import Material
from diagnostics.phrases import choose
from diagnostics.severity import Severity
from diagnostics.statistics import wilson_interval
from diagnostics.thresholds import THRESHOLDS
from plumbline import pluralize

QUESTION = Question("shared_groups", "data quality")

NO_GROUPS = (
    "the set has no groups; if rows of one writer, patient or site belong together, name the column with data.group"
)
"""Why a question about groups cannot be answered."""

# Groups that are listed.
_MOST_GROUPS = 20


def find(material: Material) -> list[Finding]:
    """Looks for groups with rows in more than one split."""
    examples = material.examples
    if examples.groups is None:
        return [QUESTION.cannot_tell(NO_GROUPS)]
    groups, split = examples.groups, examples.split
    present = {name: set(np.unique(groups[split == name]).tolist()) for name in examples.splits}
    before = set().union(*(found for name, found in present.items() if name != "test"))
    tested = present["test"] & before
    validated = present["train"] & present.get("validation", set())
    shared = sorted(tested | validated)
    in_test = split == "test"
    leaking = np.isin(groups, sorted(tested))
    share = wilson_interval(int((leaking & in_test).sum()), int(in_test.sum()))
    severity: Severity = "high" if tested else "medium" if validated else "none"
    if tested:
        message = (
            f"{pluralize(len(tested), 'group')} of the {len(present['test'])} in the test "
            f"{choose(len(tested), 'has', 'have')} rows in training or validation too: {share[0]:.1%} of the test "
            "rows. Rows of a group are alike and can be memorised, so the test looks better than new groups will."
        )
    elif validated:
        message = (
            f"{pluralize(len(validated), 'group')} {choose(len(validated), 'has', 'have')} rows in training and in "
            "validation, so validation favours models that know its groups. The test has none of them."
        )
    else:
        message = (
            f"No group has rows in more than one split: none of the {len(present['test'])} in the test is among the "
            f"{len(before)} in training and validation."
        )
    drop = np.flatnonzero(leaking & ~in_test)
    drop = drop if _leaves_enough(examples, drop) else None
    return [
        QUESTION.found(
            severity,
            message,
            measures=(
                Measure.of("test rows of groups that are also in training or validation", share, "share"),
                Measure(name="groups in more than one split", value=len(shared), kind="count"),
                Measure(name="groups", value=len(np.unique(groups)), kind="count"),
            ),
            evidence=_evidence(examples, shared) if shared else (),
            remedies=_remedies(drop, bool(tested), bool(validated)),
            drop=drop,
        )
    ]


def _leaves_enough(examples: Examples, drop: np.ndarray) -> bool:
    """Whether enough training rows remain without some rows, and some of each class."""
    train = examples.positions("train")
    left = np.setdiff1d(train, drop)
    if not len(drop) or len(left) < THRESHOLDS.remaining_rows * len(train):
        return False
    return examples.features.task != "classification" or set(examples.labels[left]) == set(examples.labels[train])


def _remedies(drop: np.ndarray | None, tested: bool, validated: bool) -> tuple[Remedy, ...]:
    remedies = []
    if drop is not None:
        text = "Leave the rows of the test's groups out of training and validation."
        remedies += drop_remedy(QUESTION.name, drop, text)
    if tested:
        text = "Hold out whole groups of the training rows for the test."
        remedies.append(Remedy(text=text, overrides={"data.test": "20 percent"}))
    if validated:
        text = "Hold out whole groups of the training rows for validation."
        remedies.append(Remedy(text=text, overrides={"data.validation": "10 percent"}))
    return tuple(remedies)


def _evidence(examples: Examples, shared: list[int]) -> tuple[Rows | Table, ...]:
    groups, split, names = examples.groups, examples.split, examples.features.group_names
    columns = tuple(examples.splits)
    counts = {group: [int(((groups == group) & (split == name)).sum()) for name in columns] for group in shared}
    most = sorted(shared, key=lambda group: -sum(counts[group]))[:_MOST_GROUPS]
    # One row of each split, for comparison side by side.
    clusters = tuple(
        tuple(
            int(np.flatnonzero((groups == group) & (split == name))[0])
            for name in columns
            if ((groups == group) & (split == name)).any()
        )
        for group in most
    )
    return (
        Table(
            title="Groups with rows in more than one split",
            header=("group", *columns),
            rows=tuple((names[group], *counts[group]) for group in most),
        ),
        Rows(
            title="One row of a group from each split",
            clusters=clusters,
            notes=tuple(names[group] for group in most),
            total=len(shared),
        ),
    )


DIAGNOSTIC = Diagnostic(title="shared_groups", questions=(QUESTION,), find=find)
