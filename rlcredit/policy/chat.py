"""How a prompt is put to a policy: through its tokenizer's chat template, or as plain text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from rlcredit.types import Prompt

ChatOption: TypeAlias = bool | int | float | str
"""Value of a variable of a chat template."""

PINNED = datetime(2026, 1, 1)
"""What a chat template that asks for the date is told, unless a policy says otherwise."""

_ANSWER = "rlcredit"
"""A word to look for behind a template's mark of the assistant's turn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptFormat:
    """Turns prompts into token ids."""

    tokenizer: PreTrainedTokenizerBase
    origin: str
    """Name of the place that the tokenizer comes from, for errors."""
    options: Mapping[str, ChatOption]
    """Variables of the chat template."""
    today: datetime
    """The date and time that the chat template is told, so that prompts are the same every day."""

    def ids(self, prompts: Sequence[Prompt], *, end_ids: frozenset[int]) -> list[list[int]]:
        """Token ids of each prompt.

        Args:
            prompts: Any number of them.
            end_ids: Tokens that end a text. Where a tokenizer without a chat template adds one to a
                prompt, it is taken away, since the response goes on there; a separator is not.

        Raises:
            ValueError: If the chat template refuses a prompt, or leaves a part of it out.
        """
        if not prompts:
            return []
        plain = self.tokenizer.chat_template is None
        texts = [self.plain(prompt) if plain else self.rendered(prompt) for prompt in prompts]
        rows: Any = self.tokenizer(texts, add_special_tokens=plain)["input_ids"]
        ends = frozenset(i for i in end_ids if i != self.tokenizer.sep_token_id)
        return [_without_end(row, ends) if plain else list(row) for row in rows]

    def rendered(self, prompt: Prompt) -> str:
        """The text that the chat template makes of a prompt, up to where the response begins.

        Raises:
            ValueError: If the template refuses the prompt, or leaves a part of it out.
        """
        return self._accepted(prompt)[1]

    def messages(self, prompt: Prompt) -> list[dict[str, str]]:
        """The messages of a prompt as the chat template takes them.

        A template that refuses the instruction as a system message, or drops it, gets it at the
        head of the user's message.

        Raises:
            ValueError: If the template refuses the prompt, or leaves a part of it out.
        """
        return self._accepted(prompt)[0]

    def plain(self, prompt: Prompt) -> str:
        """The text of a prompt where there is no chat template: what was said, by paragraphs."""
        return "\n\n".join([*(turn.content for turn in prompt.turns), prompt.text])

    def _accepted(self, prompt: Prompt) -> tuple[list[dict[str, str]], str]:
        """Messages that the template takes, and what it makes of them."""
        told = {"role": "system", "content": prompt.instruction}
        said = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
        said.append({"role": "user", "content": prompt.text})
        first = {**said[0], "content": f"{prompt.instruction}\n\n{said[0]['content']}"}
        parts = (prompt.instruction, *(each["content"] for each in said))
        refusals: list[str] = []
        for messages in [[told, *said], [first, *said[1:]]] if prompt.instruction else [said]:
            try:
                text = self._applied(messages, opens_answer=True)
            except TemplateError as error:
                refusals.append(str(error))
                continue
            if all(part.strip() in text for part in parts):
                return messages, text
            refusals.append(f"a part of the prompt is not in what it makes of it, {text!r}")
        raise ValueError(
            f"the chat template of {self.origin} refuses prompt {prompt.prompt_id!r}: "
            f"{refusals[-1]}; choose a model whose template takes a user message of plain text"
        )

    def turn_ends(self) -> frozenset[int]:
        """The token that the chat template puts behind the assistant's turn, if it is an added one.

        What a template spells in ordinary tokens there, such as a line break, ends no turn.
        """
        if self.tokenizer.chat_template is None:
            return frozenset()
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
        try:
            text = self._applied(turns, opens_answer=False)
        except TemplateError:
            return frozenset()  # a template that takes no assistant's turn ends none
        _, answered, behind = text.rpartition(_ANSWER)
        row: Any = self.tokenizer(behind.lstrip(), add_special_tokens=False)["input_ids"]
        added = {*self.tokenizer.added_tokens_decoder, *self.tokenizer.all_special_ids}
        return frozenset(row[:1]) & added if answered else frozenset()

    def _applied(self, messages: list[dict[str, str]], *, opens_answer: bool) -> str:
        # variables win over transformers' own strftime_now, which reads the clock
        variables: dict[str, Any] = {"strftime_now": self.today.strftime, **self.options}
        text = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=opens_answer, tokenize=False, **variables
        )
        assert isinstance(text, str)  # tokenize=False
        return text


def _without_end(row: Sequence[int], end_ids: frozenset[int]) -> list[int]:
    """The ids without end tokens behind the last other token."""
    kept = len(row)
    while kept and row[kept - 1] in end_ids:
        kept -= 1
    return list(row[:kept])
