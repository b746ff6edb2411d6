"""Every estimator with every loss in every world: the whole bench."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from rlcredit.bench.climb import Climb, Trained, Training, bandits
from rlcredit.bench.compare import Array, Comparison, Resampler, compare
from rlcredit.bench.draw import Draw
from rlcredit.bench.exact import OBJECTIVES, gradient, truth
from rlcredit.bench.gradients import Stage, moved
from rlcredit.bench.ranks import Agreement, agreement
from rlcredit.bench.worlds import World, worlds
from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.losses.base import PolicyLoss
from rlcredit.trainer.pairing import check_pairing
from rlcredit.types import Randomness


@dataclass(frozen=True, kw_only=True)
class Methods:
    """What is compared, by the names of their YAML files."""

    estimators: Mapping[str, AdvantageEstimator]
    losses: Mapping[str, PolicyLoss]
    own: Mapping[str, str]
    """Estimator -> the loss that its YAML chooses."""

    def same_as(self, name: str) -> str:
        """The first estimator that is built alike: some YAMLs differ in the loss they choose."""
        estimator = self.estimators[name]
        return next(known for known, other in self.estimators.items() if other == estimator)

    @property
    def distinct(self) -> Mapping[str, AdvantageEstimator]:
        """Estimators without those that are the same as an earlier one."""
        return {n: each for n, each in self.estimators.items() if self.same_as(n) == n}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is drawn.

    Raises:
        ValueError: If intervals could not be made, or groups are too small for some methods.
    """

    replicates: int = 2048
    """Groups for each question of each world."""
    group_size: int = 8
    drift: float = 0.1
    """How far the policy has moved since it sampled, in the second comparison: root mean square
    of tokens' log-probs, in nats."""
    seed: int = 0
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        """Check the counts."""
        if self.replicates < 8:
            raise ValueError(
                f"replicates={self.replicates}; intervals are of two halves: use 8 or more"
            )
        if self.group_size < 2 or self.drift < 0:
            raise ValueError(
                f"group_size={self.group_size} and drift={self.drift}; a group has 2 responses or "
                "more, and a distance is not negative"
            )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A pair in a world."""

    world: str
    estimator: str
    loss: str
    here: Comparison
    """The comparison at the policy that sampled."""
    moved: Comparison
    """After the policy has moved by the drift; what it is climbing is not looked for."""


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """An estimator's credit in a world."""

    world: str
    estimator: str
    agreement: Agreement
    largest: float
    """The largest advantage of a token, up or down, among all that were drawn."""


@dataclass(frozen=True, kw_only=True)
class BanditResult:
    """How the bandits ended that one estimator and one loss trained, by the bandit's name."""

    estimator: str
    loss: str
    bandits: Mapping[str, Trained]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What does not go together, in whose words."""

    world: str
    """Or ``bandits``."""
    estimator: str
    loss: str
    why: str


@dataclass(kw_only=True)
class Found:
    """All that the bench measured."""

    settings: Settings
    worlds: Sequence[World]
    methods: Methods
    entries: list[Entry] = field(default_factory=list)
    ordered: list[Ordered] = field(default_factory=list)
    bandits: list[BanditResult] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def bench(
    methods: Methods,
    settings: Settings,
    *,
    chosen: Sequence[str] = (),
    say: Callable[[str], None],
) -> Found:
    """Measure everything; a function of its arguments alone.

    Args:
        methods: What is compared.
        settings: How much is drawn.
        chosen: Names of worlds; empty: all, and the bandits.
        say: Where progress goes.

    Raises:
        ValueError: If a world is asked for that does not exist.
    """
    known = {world.name: world for world in worlds()}
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"no world is called {unknown[0]!r}; there are {', '.join(known)}")
    found = Found(
        settings=settings,
        worlds=[known[name] for name in chosen or known],
        methods=methods,
    )
    for world in found.worlds:
        say(f"{world.name}: {world.structure}")
        _World(world=world, found=found).measure()
    if not chosen:
        say("bandits, trained")
        _train(found)
    return found


class _World:
    """One world's draws, shared by all methods."""

    def __init__(self, *, world: World, found: Found) -> None:
        self.world, self.found = world, found
        settings = found.settings
        self.draw = Draw.of(
            world,
            world.parameters,
            replicates=settings.replicates,
            group_size=settings.group_size,
            randomness=Randomness(seed=settings.seed, step=0),
        )
        start, later = world.parameters, moved(world, drift=settings.drift)
        self.here = Stage(draw=self.draw, sampler=start, parameters=start)
        self.moved = Stage(draw=self.draw, sampler=start, parameters=later)
        self.objectives = {
            name: gradient(objective, world, start).numpy()
            for name, objective in OBJECTIVES.items()
        }
        self.resampler = Resampler(settings.replicates)
        self.truth = truth(world)

    def measure(self) -> None:
        """All pairs; what is refused is noted."""
        methods = self.found.methods
        units = {name: self.here.unit(loss) for name, loss in methods.losses.items()}
        for name, estimator in methods.distinct.items():
            losses = list(self._accepted(name, estimator))
            if not losses:
                continue
            try:
                signals, evaluations = self.draw.signals(estimator.needs)
                advantages = estimator(signals).values
            except ValueError as error:
                self._refuse(name, losses, str(error))
                continue
            samples: int | float = self.found.settings.group_size
            if signals.num_extra_tokens:  # continuations count by their tokens
                samples *= 1 + signals.num_extra_tokens / int(signals.response_mask.sum())
            for loss in losses:
                self._compare(name, loss, advantages, units[loss], samples, evaluations)
            found = agreement(advantages, self.here, self.truth, self.resampler)
            ordered = Ordered(
                world=self.world.name,
                estimator=name,
                agreement=found,
                largest=float(advantages.abs().max()),
            )
            self.found.ordered.append(ordered)

    def _accepted(self, name: str, estimator: AdvantageEstimator) -> Iterator[str]:
        for loss_name, loss in self.found.methods.losses.items():
            try:
                check_pairing(
                    estimator,
                    loss,
                    group_size=self.found.settings.group_size,
                    num_candidates=self.world.candidates,
                )
            except ValueError as error:
                self._refuse(name, [loss_name], str(error))
            else:
                yield loss_name

    def _refuse(self, estimator: str, losses: Sequence[str], why: str) -> None:
        self.found.refused += [
            Refused(world=self.world.name, estimator=estimator, loss=loss, why=why)
            for loss in losses
        ]

    def _compare(
        self,
        estimator: str,
        loss: str,
        advantages: Float[Tensor, "P G T"],
        unit: float,
        samples: int | float,
        evaluations: float,
    ) -> None:
        method = self.found.methods.losses[loss]
        try:
            here, later = (
                stage.gradients(method, advantages) / unit for stage in (self.here, self.moved)
            )
        except ValueError as error:
            self._refuse(estimator, [loss], str(error))
            return
        self.found.entries.append(
            Entry(
                world=self.world.name,
                estimator=estimator,
                loss=loss,
                here=self._against(here, self.here, self.objectives, samples, evaluations),
                moved=self._against(later, self.moved, {}, samples, evaluations),
            )
        )

    def _against(
        self,
        gradients: Array,
        stage: Stage,
        objectives: Mapping[str, Array],
        samples: int | float,
        evaluations: float,
    ) -> Comparison:
        return compare(
            gradients,
            stage.target,
            {"mean reward": stage.target, **objectives},
            self.resampler,
            control=stage.plain if stage is self.here else None,
            samples=self.world.questions * samples,
            evaluations=self.world.questions * evaluations,
        )


def _train(found: Found) -> None:
    """Bandits with every pair that goes together on a text of one segment."""
    settings = found.settings
    climb = Climb(
        world=bandits(),
        training=settings.training,
        group_size=settings.group_size,
        seed=settings.seed,
    )
    for name, estimator in found.methods.distinct.items():
        for loss_name, loss in found.methods.losses.items():
            try:
                check_pairing(estimator, loss, group_size=settings.group_size, num_candidates=0)
                trained = climb(estimator, loss)
            except ValueError as error:
                found.refused.append(
                    Refused(world="bandits", estimator=name, loss=loss_name, why=str(error))
                )
            else:
                found.bandits.append(BanditResult(estimator=name, loss=loss_name, bandits=trained))
