"""Run folders and explorer views made by hand, with foreign text that wants to be markup."""

import json
from dataclasses import replace

from rlcredit.evaluation.stats import Interval
from rlcredit.report.embedded import Shown, ShownRun
from rlcredit.report.steps import PromptSteps, StepView
from rlcredit.report.views import Hit, MethodView, PromptView, ResponseView, SegmentView
from rlcredit.run.folder import Change, RunSummary, Status
from rlcredit.scoring.samples import SegmentCredit

HEADLINE = "eval/validation/bm25/ndcg@10_sampled"
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def interval(mean):
    return Interval(mean=mean, low=mean - 0.01, high=mean + 0.01)


def write_run(folder, *, estimator="grpo", seed=0, after=0.4, steps=3, overrides=()):
    """A finished run's folder."""
    change = Change(before=interval(0.2), after=interval(after), difference=interval(after - 0.2))
    same = Change(before=interval(0.3), after=interval(0.3), difference=interval(0.0))
    RunSummary(
        name=f"esci/{estimator}",
        status=Status.finished,
        digest=f"{seed:032x}",
        data="generated",
        data_digest="d" * 32,
        steps=steps,
        wall_time_s=60.0 + seed,
        headline="bm25/ndcg@10_sampled",
        measures={"bm25/ndcg@10_sampled": change, "bm25/ndcg@10_query": same},
        test_touches=2,
        code_revision="c" * 40,
        versions={"python": "3.11"},
    ).write(folder)
    lines = [
        {"step": step, "reward/mean": 0.1 * step, "reward/evaluations": 80.0, HEADLINE: 0.1 * step}
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / ".hydra").mkdir()
    policy = "policy: {hidden_size: 96, num_layers: 3}\n"
    (folder / ".hydra" / "config.yaml").write_text(f"seed: {seed}\n{policy}")
    written = [f"estimator={estimator}", f"seed={seed}", *overrides]
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in written))
    return folder


def segment(text, alone, without, found=()):
    """A part that counts."""
    return SegmentView(
        text=text,
        counts=True,
        true=text == "tent",
        alone=alone,
        without=without,
        up_to=alone,
        found_without=tuple(Hit(document_id=f"d{n}", grade=0) for n in found or (1,)),
    )


def views():
    """One prompt, two responses of two segments."""

    def response(reward, sign):
        return ResponseView(
            text="tent, red",
            reward=reward,
            tokens=("tent", ",", " red"),
            segment_of=(0, -1, 1),
            segments=(segment("tent", 0.5, 0.1, (1, 0)), segment("red", 0.1, 0.5)),
            found=(Hit(document_id="d0", grade=3), Hit(document_id="d1", grade=0)),
            methods={
                "ospo": MethodView(advantages=(1.0, 0.5, -1.0), credit=(sign * 0.3, 0.0, -0.1)),
                "grpo": MethodView(advantages=(0.5, 0.5, 0.5), credit=None),
            },
        )

    prompt = PromptView(
        prompt_id="q0", text=EVIL, query=EVIL, responses=(response(0.5, 1), response(0.2, -1))
    )
    return [prompt, replace(prompt, prompt_id="q/1", text="a boat", query="a boat")]


def long_views():
    """One prompt, two responses of 300 tokens in 30 segments."""

    def response(reward):
        words = [f"word{n}" for n in range(150)]
        tokens = tuple(piece for word in words for piece in (word, " "))
        parts = tuple(
            segment(" ".join(words[5 * k : 5 * k + 5]), 0.1, reward - 0.01 * k) for k in range(30)
        )
        credit = tuple(0.01 * (n // 10) for n in range(300))
        return ResponseView(
            text="".join(tokens),
            reward=reward,
            tokens=tokens,
            segment_of=tuple(n // 10 for n in range(300)),
            segments=parts,
            found=(Hit(document_id="d0", grade=1),),
            methods={
                "ospo": MethodView(advantages=credit, credit=credit),
                "grpo": MethodView(advantages=(0.5,) * 300, credit=None),
            },
        )

    responses = (response(0.5), response(0.2))
    return [PromptView(prompt_id="long", text="long", query="long", responses=responses)]


def steps():
    """One training prompt at two steps."""
    return [
        PromptSteps(
            text="a lamp",
            steps=tuple(
                StepView(
                    step=step,
                    mean=0.1 * step,
                    reward=0.1 * step,
                    response=f"lamp, {EVIL}",
                    segments=(
                        SegmentCredit(text="lamp", credit=0.1 * step, counts=True),
                        SegmentCredit(text=EVIL, credit=-0.1, counts=False),
                    ),
                )
                for step in (1, 4)
            ),
        )
    ]


TITLES = {"d0": f"tent {EVIL}", "d1": "</script><b>boat</b>"}


def shown(prompts=None, part="segment"):
    """What the explorer shows: the same prompts by two runs."""
    own = views() if prompts is None else prompts
    runs = [ShownRun(label=f"{name}, after training", prompts=own) for name in ("OSPO", "GRPO")]
    return Shown(runs=runs, part=part, own="ospo", titles=TITLES, steps=steps())
