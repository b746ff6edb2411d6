"""Run folders and explorer views made by hand, with foreign text that wants to be markup."""

import json

from rlcredit.evaluation.stats import Interval
from rlcredit.report.views import Hit, MethodView, PromptView, ResponseView, SegmentView
from rlcredit.run.folder import Change, RunSummary, Status

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def interval(mean):
    return Interval(mean=mean, low=mean - 0.01, high=mean + 0.01)


def write_run(folder, *, estimator="grpo", seed=0, after=0.4, steps=3, overrides=()):
    """A finished run's folder."""
    change = Change(before=interval(0.2), after=interval(after), difference=interval(after - 0.2))
    RunSummary(
        name=f"esci/{estimator}",
        status=Status.finished,
        digest=f"{seed:032x}",
        data="generated",
        data_digest="d" * 32,
        steps=steps,
        wall_time_s=60.0 + seed,
        headline="bm25/ndcg@10_sampled",
        measures={"bm25/ndcg@10_sampled": change},
        test_touches=2,
        code_revision="c" * 40,
        versions={"python": "3.11"},
    ).write(folder)
    lines = [
        {"step": step, "reward/mean": 0.1 * step, "reward/evaluations": 80.0}
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(f"seed: {seed}\n")
    written = [f"estimator={estimator}", f"seed={seed}", *overrides]
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in written))
    return folder


def views():
    """One prompt, two responses of two segments."""

    def segment(text, alone, without):
        return SegmentView(
            text=text,
            counts=True,
            true=text == "tent",
            alone=alone,
            without=without,
            up_to=alone,
            found_without=(Hit(document_id="d1", grade=0),),
        )

    def response(reward, sign):
        return ResponseView(
            text="tent, red",
            reward=reward,
            tokens=("tent", ",", " red"),
            segment_of=(0, -1, 1),
            segments=(segment("tent", 0.5, 0.1), segment("red", 0.1, 0.5)),
            found=(Hit(document_id="d0", grade=3), Hit(document_id="d1", grade=0)),
            methods={
                "ospo": MethodView(advantages=(1.0, 0.5, -1.0), credit=(sign * 0.3, 0.0, -0.1)),
                "grpo": MethodView(advantages=(0.5, 0.5, 0.5), credit=None),
            },
        )

    prompt = PromptView(
        prompt_id="q0", text=EVIL, query=EVIL, responses=(response(0.5, 1), response(0.2, -1))
    )
    return [prompt]


TITLES = {"d0": f"tent {EVIL}", "d1": "</script><b>boat</b>"}
