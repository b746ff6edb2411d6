"""The knobs of the training loop."""

from dataclasses import dataclass, field
from enum import StrEnum

from rlcredit.identity import ASIDE
from rlcredit.policy.hf import Dtype
from rlcredit.policy.packing import Packing
from rlcredit.policy.sharded import Weights
from rlcredit.trainer.mismatch import Mismatch
from rlcredit.trainer.optim import AdamW


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How many of what, and how large; the words are those of the header that a run prints."""

    steps: int = 100
    """Batches of rollouts; 0 trains nothing and scores the policy as it is."""
    prompts_per_step: int = 10
    """P: over all processes."""
    group_size: int = 8
    """G: rollouts of each prompt."""
    resample_equal_groups: int = 0
    """Rounds, at most, in which groups of equal rewards are replaced by groups of other prompts
    (DAPO's dynamic sampling); what is still equal then stays. 0: all stay."""
    updates_per_batch: int = 1
    """Optimizer steps on each batch of rollouts; beyond the first they are off-policy."""
    tokens_per_microbatch: int = field(default=16384, metadata=ASIDE)
    """Tokens in one backward pass; changes memory and speed, no number."""
    packing: Packing = field(default=Packing.shared_prefix, metadata=ASIDE)
    """A prompt is computed once for all its responses, where the model can take it. Like the size
    of micro-batches it moves the last bits of a float32 run, and is no part of its digest."""
    autocast: bool = False
    """Log-probs and gradients in bfloat16 products (weights, sampling and optimizer stay as they
    are): faster, log-probs off by up to about 0.01."""
    max_advantage: float | None = None
    """Advantages are clamped to +- this, after which those of a group need not sum to 0; None
    leaves them. The share of clamped tokens is logged."""
    mismatch: Mismatch = field(default_factory=Mismatch)
    optimizer: AdamW = field(default_factory=AdamW)
    device: str = field(default="cpu", metadata=ASIDE)
    """Where the policy is computed: cpu, cuda or cuda:<n>."""
    deterministic: bool = field(default=False, metadata=ASIDE)
    """On a GPU, kernels whose sums have one order, so that a resumed run writes the same bits;
    slower. The CPU's have one in any case."""
    plan: bool = field(default=False, metadata=ASIDE)
    """Print what the run would need of memory in each process, and end: nothing is loaded."""
    threads: int | None = field(default=None, metadata=ASIDE)
    """CPU threads of torch in each process; None leaves torch's choice to a single process, and
    shares the machine's cores among several."""
    processes: int = field(default=1, metadata=ASIDE)
    """Processes of the run on this machine, a GPU each where there are GPUs; 1 starts none. Under
    torchrun, srun or mpirun their number counts."""
    weights: Weights = field(default=Weights.replicated, metadata=ASIDE)
    """``sharded``: each process holds a part of them (FSDP2); needs several processes."""
    compute_dtype: Dtype | None = None
    """Format of sharded weights while log-probs and samples are computed (bfloat16); their parts,
    gradients and moments keep the policy's. null: the policy's."""
    timeout_s: float = field(default=1800.0, metadata=ASIDE)
    """How long a process waits for the others, evaluations and preparations included, before it
    ends the run and names who is missing."""
    port: int | None = field(default=None, metadata=ASIDE)
    """Port at which the processes find each other; null: one that is free."""
    checkpoint_every: int = field(default=25, metadata=ASIDE)
    """Steps between checkpoints; the last step always has one, and so has each step that sets a new
    best on the validation split."""
    keep_checkpoints: int = field(default=2, metadata=ASIDE)
    """The last so many stay, and the best."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be run."""
        if self.steps < 0:
            raise ValueError(f"trainer.steps={self.steps}: it must be at least 0")
        sizes = ("prompts_per_step", "group_size", "updates_per_batch", "keep_checkpoints")
        for name in (*sizes, "tokens_per_microbatch", "checkpoint_every", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"trainer.{name}={getattr(self, name)}: it must be at least 1")
        if self.resample_equal_groups < 0:
            raise ValueError(
                f"trainer.resample_equal_groups={self.resample_equal_groups}: it must be 0 (no "
                "group is replaced) or more rounds"
            )
        if self.max_advantage is not None and self.max_advantage <= 0:
            raise ValueError(
                f"trainer.max_advantage={self.max_advantage}: it must be positive; null: no limit"
            )
        self._check_processes()

    def _check_processes(self) -> None:
        if self.processes > self.prompts_per_step:
            raise ValueError(
                f"trainer.processes={self.processes} is more than trainer.prompts_per_step="
                f"{self.prompts_per_step}, and a prompt's group is never split: some would have "
                "nothing to do; lower the one or raise the other"
            )
        if self.compute_dtype is not None and self.weights is Weights.replicated:
            raise ValueError(
                f"trainer.compute_dtype={self.compute_dtype} is of sharded weights; take "
                "trainer=fsdp, or trainer.autocast=true for whole ones"
            )
        if not self.timeout_s > 0:
            raise ValueError(f"trainer.timeout_s={self.timeout_s}: it must be positive, in seconds")
        if self.port is not None and not 0 < self.port < 2**16:
            raise ValueError(f"trainer.port={self.port}: 1 to 65535, or null for a free one")


class Resume(StrEnum):
    """Whether a run folder that holds an unfinished run is continued."""

    auto = "auto"
    previous = "previous"
    """Like auto, but where the newest checkpoint is damaged, the newest whole one is used."""
    never = "never"
    wait = "wait"
    """Like auto, once the process that runs there has ended."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What is scored before, during and after training."""

    retrievers: list[str] = field(default_factory=lambda: ["bm25", "tfidf", "lsa", "minilm"])
    """Names in conf/retriever; the training retriever is always among those that score."""
    samples: int = 4
    """Sampled responses (at the rollout's temperature) to each held-out prompt."""
    every: int = 10
    """Steps between two scores of the validation split; 0: never."""
    max_prompts: int | None = None
    """Largest number of held-out prompts of a split; None: all of them."""

    def __post_init__(self) -> None:
        """Refuse what cannot be scored."""
        if self.samples < 1:
            raise ValueError(f"evaluation.samples={self.samples}: it must be at least 1")
        if self.every < 0:
            raise ValueError(f"evaluation.every={self.every}: 0 turns it off, else steps between")

    def is_due(self, step: int, *, last: int) -> bool:
        """Is the validation split scored after this step (0: before the first)?"""
        return self.every > 0 and (step % self.every == 0 or step == last)
