"""Comparison of the service's rows with the inputs they were made from.

An id alone proves nothing: a database that was replaced, or restored from an older copy, gives
the same ids to other objects, and an object may be edited. So hashes of contents are noted in
the journal, and compared with what a row says of its input.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elluminate_async.schemas.prompt_templates import render

if TYPE_CHECKING:
    from elluminate_async.schemas.ratings import Rating
    from elluminate_async.schemas.responses import PromptResponse
    from elluminate_async.schemas.template_variables import TemplateVariables


def hash_of(value: object) -> str:
    """A short hash of JSON-like data: equal for equal contents, whatever the order of names."""
    try:
        text = json.dumps(value, sort_keys=True, default=str)
    except (TypeError, ValueError, RecursionError):
        # Nothing that came from the service; of the caller's own making it may be anything.
        text = repr(value)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def hash_of_row(row: PromptResponse) -> str:
    """Of the input that a response says it was made from."""
    entry = row.prompt.template_variables
    return hash_of([entry.id, entry.input_values, row.epoch])


def hash_of_response(row: PromptResponse) -> str:
    """Of a response as the judge sees it: its input and its output."""
    template = row.prompt.prompt_template
    output = [message.model_dump(mode="json") for message in row.messages]
    return hash_of([hash_of_row(row), template and [template.id, template.version], output])


def hash_of_ratings(response: str, ratings: Sequence[Rating]) -> str:
    """Of a response's ratings: of what, by which criteria, and what they say."""
    return hash_of([
        response,
        [
            [r.id, r.criterion.id, r.criterion.criterion_str, str(r.rating), r.reasoning]
            for r in ratings
        ],
    ])  # fmt: skip


def config_of(row: PromptResponse) -> int | None:
    """The configuration that a row names."""
    metadata = row.generation_metadata
    config = metadata.llm_model_config if metadata is not None else None
    return config.id if config is not None else None


# Not frozen, as one is made for each item and would take twice the time.
@dataclass(slots=True)
class Subject:
    """A response to rate.

    Attributes:
        response: As the caller has it; None when only its id was given.
        content: `hash_of_response` of it, once it was asked for or read.
    """

    id: int
    response: PromptResponse | None = None
    content: str | None = None

    def hash(self) -> str | None:
        """Of its content; None when nobody knows it."""
        if self.content is None and self.response is not None:
            self.content = hash_of_response(self.response)
        return self.content


# Not frozen, as one is made for each item and would take twice the time.
@dataclass(slots=True, eq=False)
class Echo:
    """The request as a row tells it, beside its natural key; None for what is not known.

    It is never changed.

    Attributes:
        config_id: The configuration that was asked for.
        template_id: The template.
        variables: The entry, with its content.
        text: What was to be stored.
        filled: Its prompt must be its template, filled in with its variables as they are now.
    """

    config_id: int | None = None
    template_id: int | None = None
    variables: TemplateVariables | None = None
    text: str | None = None
    filled: bool = False

    def fits(self, row: PromptResponse) -> bool:
        """Whether nothing that ``row`` says contradicts."""
        named = config_of(row) if self.config_id is not None else None
        template = row.prompt.prompt_template
        return (
            (named is None or named == self.config_id)
            and (self.template_id is None or template is None or template.id == self.template_id)
            and (self.variables is None or _same_variables(self.variables, row))
            and (self.text is None or row.response_str.strip() == self.text.strip())
            and (not self.filled or _is_filled(row))
        )

    def is_other_input(self, row: PromptResponse) -> bool:
        """Whether ``row`` was made from other values."""
        return self.variables is not None and not _same_variables(self.variables, row)


def _same_variables(variables: TemplateVariables, row: PromptResponse) -> bool:
    said = row.prompt.template_variables
    return said.id == variables.id and (
        said.input_values == variables.input_values
        or hash_of(said.input_values) == hash_of(variables.input_values)
    )


def _is_filled(row: PromptResponse) -> bool:
    """False when the prompt was made from other values than the row says now: they were edited.

    Only where that is certain: how a service writes a value that is no text is its own affair.
    """
    prompt, template = row.prompt, row.prompt.prompt_template
    if template is None or len(prompt.messages) != len(template.messages):
        return True
    values = prompt.template_variables.input_values
    if not all(isinstance(values.get(name), str) for name in template.placeholders):
        return True
    for was, filled in zip(prompt.messages, render(template.messages, values), strict=True):
        texts = was.get("content"), filled.get("content")
        if all(isinstance(text, str) for text in texts):
            before, now = map(str, texts)
            if before.strip() != now.strip():
                return False
    return True
