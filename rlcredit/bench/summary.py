"""What the bench found, as sheets: one row per method, worlds summed up or side by side."""

from collections.abc import Iterable, Iterator, Sequence

from rlcredit.bench.cells import GAP, by_world, middle, own_entries, shown
from rlcredit.bench.climb import BANDITS
from rlcredit.bench.compare import BUDGET, RESOLVED
from rlcredit.bench.errors import BASELINE, error_sheets
from rlcredit.bench.exact import optimum
from rlcredit.bench.run import Entry, Found
from rlcredit.report.sheets import Sheet

VALUES = ("shapley", "owen", "myerson", "leave_one_out", "choices")


def sheets(found: Found) -> list[Sheet]:
    """All of them, the short ones first."""
    return [
        methods_sheet(found),
        directions_sheet(found),
        *error_sheets(found),
        climbs_sheet(found),
        credit_sheet(found),
        pairs_sheet(found),
        bandits_sheet(found),
        worlds_sheet(found),
        refused_sheet(found),
    ]


def methods_sheet(found: Found) -> Sheet:
    """Each estimator with its own loss, over worlds."""
    head = ("estimator", "loss", *_HEAD)
    rows = [
        (name, found.methods.own[name], *_over_worlds([*row.values()]))
        for name, row in own_entries(found).items()
    ]
    return Sheet(title="Estimators with their own loss", head=head, rows=tuple(rows))


_HEAD = (
    "worlds",
    "cosine",
    "lowest",
    "length",
    "bias",
    "largest",
    "unbiased in",
    "variance of a replicate",
    f"error, {BUDGET} samples",
    f"error, {BUDGET} rewards",
    "the same at the best rate: samples",
    "rewards",
    "cosine after moving",
)


def _over_worlds(entries: Sequence[Entry]) -> tuple[str, ...]:
    here = [entry.here for entry in entries]
    cosines = [c.cosine for c in here if c.cosine is not None]
    moved = [e.moved.cosine for e in entries if e.moved.cosine is not None]
    hidden = len(here) - len(cosines)
    return (
        str(len(here)),
        middle(cosines) + "*" * bool(hidden),
        f"{min(c.mean for c in cosines):.3f}" if cosines else GAP,
        middle([c.scale for c in here], ".3g"),
        middle([c.bias for c in here], ".3g"),
        f"{max(c.bias.mean for c in here):.3g}",
        f"{sum(c.unbiased for c in here)}/{len(here)}",
        middle([c.variance for c in here], ".3g"),
        middle([c.by_samples.error for c in here], ".3g"),
        middle([c.by_rewards.error for c in here], ".3g"),
        middle([c.by_samples.at_best_rate for c in here]),
        middle([c.by_rewards.at_best_rate for c in here]),
        middle(moved),
    )


def pairs_sheet(found: Found) -> Sheet:
    """Every pair that goes together, over worlds."""
    pairs: dict[tuple[str, str], list[Entry]] = {}
    for entry in found.entries:
        pairs.setdefault((entry.estimator, entry.loss), []).append(entry)
    rows = [(*pair, *_over_worlds(entries)) for pair, entries in pairs.items()]
    head = ("estimator", "loss", *_HEAD)
    return Sheet(title="Every estimator with every loss", head=head, rows=tuple(rows))


def directions_sheet(found: Found) -> Sheet:
    """Cosines by world."""
    title = "Cosine of the expected gradient with the true one, own loss"
    return by_world(found, title, lambda entry: shown(entry.here.cosine))


def climbs_sheet(found: Found) -> Sheet:
    """The objective whose gradient is nearest, by world."""

    def cell(entry: Entry) -> str:
        here = entry.here
        if here.climbs not in here.cosines:
            return here.climbs or GAP
        others = f" (or {', '.join(here.tied)})" if here.tied else ""
        return f"{here.climbs} {here.cosines[here.climbs]:.3f}{others}"

    return by_world(found, "What it climbs: the nearest gradient and its cosine, own loss", cell)


def credit_sheet(found: Found) -> Sheet:
    """Rank correlations with the truth, means over worlds."""
    rows: list[tuple[str, ...]] = []
    for name in found.methods.distinct:
        ordered = [each for each in found.ordered if each.estimator == name]
        own = [each.agreement for each in ordered]
        cells = [
            _mean(value.mean for one in own if (value := getattr(one, key)) is not None)
            for key in VALUES
        ]
        if own:
            largest = max(each.largest for each in ordered)
            rows.append((name, *cells, f"{largest:.3g}", str(len(own))))
    names = (key.replace("_", " ") for key in VALUES)
    head = ("estimator", *names, "largest advantage", "worlds")
    title = "Rank correlation of the advantages with true values of words, and of choices"
    return Sheet(title=title, head=head, rows=tuple(rows))


def _mean(values: Iterable[float]) -> str:
    kept = [*values]
    return f"{sum(kept) / len(kept):+.2f}" if kept else GAP


def bandits_sheet(found: Found) -> Sheet:
    """How the bandits ended that each pair of methods trained."""
    head = ["estimator", "loss"]
    head += [f"{what}, {name}" for name in BANDITS for what in ("P(right)", "modes")]
    rows = [
        (
            result.estimator,
            result.loss,
            *(
                shown(figure, form)
                for name in BANDITS
                for figure, form in (
                    (result.bandits[name].right, ".3f"),
                    (result.bandits[name].modes, ".2f"),
                )
            ),
        )
        for result in found.bandits
    ]
    training = found.settings.training
    title = (
        f"Bandits after {training.batches} batches of {training.updates} updates, "
        f"{training.runs} runs each"
    )
    return Sheet(title=title, head=tuple(head), rows=tuple(rows))


def worlds_sheet(found: Found) -> Sheet:
    """The worlds."""
    rows = []
    for world in found.worlds:
        best = optimum(world)
        chance = world.logprobs(world.parameters).detach().sum(dim=-1).exp()
        now = (chance * world.rewards).sum(dim=-1)
        rows.append(
            (
                world.name,
                world.structure,
                type(world.policy).__name__.lower(),
                str(len(world.tree.responses)),
                ", ".join(f"{value:.2f}" for value in now.tolist()),
                ", ".join(f"{value:.2f}" for value in best.reward.tolist()),
                ", ".join(f"{value:.2g}" for value in best.chance.tolist()),
            )
        )
    head = ("world", "structure", "policy", "responses", "mean reward of each question",
            "optimal reward", "chance of an optimal response")  # fmt: skip
    return Sheet(title="Worlds", head=head, rows=tuple(rows))


def refused_sheet(found: Found) -> Sheet:
    """What does not go together, each reason once."""
    rows = [
        (why, *(", ".join(parts[part]) for part in ("estimator", "loss", "world")))
        for why, parts in refusals(found).items()
    ]
    head = ("reason", "estimators", "losses", "worlds")
    return Sheet(title="Refused", head=head, rows=tuple(rows))


def refusals(found: Found) -> dict[str, dict[str, list[str]]]:
    """Reason -> part (world, estimator, loss) -> names."""
    reasons: dict[str, dict[str, dict[str, None]]] = {}
    for each in found.refused:
        parts = reasons.setdefault(each.why, {"world": {}, "estimator": {}, "loss": {}})
        for part, names in parts.items():
            names[getattr(each, part)] = None
    return {
        why: {part: list(names) for part, names in parts.items()} for why, parts in reasons.items()
    }


def notes(found: Found) -> Iterator[str]:
    """How to read the sheets."""
    settings = found.settings
    yield (
        f"{settings.replicates} replicates of each world, each one group of {settings.group_size} "
        f"responses for each of its questions; seed {settings.seed}. Brackets are 95 % bootstrap "
        "intervals over replicates. Figures over worlds are medians, worlds fixed; lowest and "
        "largest are of the world where they are so."
    )
    yield (
        "A gradient is measured in its loss's unit: what the loss makes of small exact advantages "
        "has length 1. Length is along the true gradient of the mean reward, bias the length of "
        "expected minus true over true; unbiased: its interval reaches 0 and stays below "
        f"{RESOLVED}. Variance is of one replicate, errors are mean squares over the true "
        "gradient's, for as many samples (or rewards asked for) of independent replicates. At the "
        "best rate: after the one multiplication that makes the error least; 1 is no use at all."
    )
    yield (
        f"Beside {BASELINE}'s: methods meet the same draws, so differences are of the same "
        "resamples. Less in, more in: worlds where the interval of the difference keeps to one "
        "side of 0, 95 % for one world at a time."
    )
    yield (
        f"Moved: the policy has taken a step up the true gradient of {settings.drift:g} nats per "
        "token (root mean square) since it sampled, so ratios and clips count."
    )
    yield (
        f"{GAP}: undefined (credit that never differs within a response, a direction that noise "
        "hides, a world that the method is refused in). *: noise hid the direction in some worlds, "
        "which are left out."
    )
    yield (
        "Advantages are used as estimators give them; a run may clamp them "
        "(trainer.max_advantage). All replicates are one batch, so what is taken over a batch is "
        "that of a large one."
    )
    same = {n: found.methods.same_as(n) for n in found.methods.estimators}
    aliases = [f"{name} is {first}" for name, first in same.items() if name != first]
    if aliases:
        yield f"One estimator under two names, with two losses: {', '.join(aliases)}."
