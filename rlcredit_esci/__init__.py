"""The environment ``rlcredit-esci`` of verifiers v1: product search with graded judgements."""

from rlcredit.integrations.verifiers import OneAnswer, SearchEnv, SearchTaskset

__all__ = ["ESCITaskset", "OneAnswer", "SearchEnv"]


class ESCITaskset(SearchTaskset):
    """ESCI's queries: generated, or the published files (``--env.taskset.task.source path``)."""

    DATASET = "esci"
