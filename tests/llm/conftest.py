"""A small task and prompt."""

from __future__ import annotations

import pytest

from llmlabel.llm import Prompt, parse_prompt
from llmlabel.schema import Task


@pytest.fixture
def task() -> Task:
    return Task("spam", {"HAM": "a real remark", "SPAM": "promotion"})


@pytest.fixture
def prompt() -> Prompt:
    return parse_prompt(
        """---
name: spam
version: 1
temperature: 0
answer:
  label: {enum: [$classes, UNSURE]}
  confidence: {type: number, minimum: 0.5, maximum: 1}
---
system:
Classes:
{% for c in task.classes %}
{{ c.name }}: {{ c.description }}
{% endfor %}
user:
<{{ text }}>
""",
        file="spam.md",
    )
