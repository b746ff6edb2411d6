"""The environment ``rlcredit-hm`` of verifiers v1: what a customer buys next."""

from rlcredit.integrations.verifiers import OneAnswer, SearchEnv, SearchTaskset

__all__ = ["HMTaskset", "OneAnswer", "SearchEnv"]


class HMTaskset(SearchTaskset):
    """H&M's customers: generated, or the published files (``--env.taskset.task.source path``)."""

    DATASET = "hm"
