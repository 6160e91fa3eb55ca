"""What both frameworks must make of the same structured reply: a table that knows neither of them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import BaseModel

__all__ = ["ADA", "CASES", "SAID", "Case", "Person", "Sure"]


class Person(BaseModel):
    """Somebody."""

    name: str = ""
    age: int = 0


class Sure(BaseModel):
    """Somebody of whom all is known."""

    name: str
    age: int


@dataclass(frozen=True)
class Case:
    """A reply as text.

    Attributes:
        name: What it shows.
        text: What the model writes.
        answer: The answer; None for none.
        why: What the error says.
    """

    name: str
    text: str
    answer: dict[str, object] | None = None
    why: str = ""


ADA: dict[str, object] = {"name": "Ada", "age": 36}
SAID = json.dumps(ADA)
_SCHEMA = json.dumps(Person.model_json_schema())
_FIELDS = json.dumps(Person.model_json_schema()["properties"])

CASES = [
    Case("whole", SAID, ADA),
    Case("fenced", f"```json\n{SAID}\n```", ADA),
    Case("in prose", f"As [1] says, for {{name}}: {SAID} Anything else?", ADA),
    Case("after a thought", f"I could say {{}}.\n</think>\n{SAID}", ADA),
    Case("said twice", f"{SAID}\nOnce more: {SAID}", ADA),
    Case("schema first", f"Schema: {_SCHEMA}\nAnswer: {SAID}", ADA),
    Case("a break in a string", '{"name": "Ada\nLovelace", "age": 36}', {"name": "Ada\nLovelace", "age": 36}),
    Case("draft and final", f'Draft: {{"name": "Bob", "age": 1}} wait. Final: {SAID}', why="2 answers that differ"),
    Case("two fences", f'```\n{SAID}\n```\n```\n{{"name": "Bob", "age": 1}}\n```', why="2 answers that differ"),
    Case("schema", _SCHEMA, why="repeats the schema"),
    Case("schema in prose", f"It is:\n```json\n{_SCHEMA}\n```", why="repeats the schema"),
    Case("fields", f'{{"properties": {_FIELDS}}}', why="repeats the schema"),
    Case("only the fields", _FIELDS, why="repeats the schema"),
    Case("an error", '{"error": "I cannot"}', why="none of the fields"),
    Case("inside of something", f'{{"person": {SAID}}}', why="none of the fields"),
    Case("NaN", '{"name": "Ada", "age": NaN}', why="NaN"),
    Case("a key twice", '{"name": "Ada", "name": "Bob", "age": 36}', why="the key 'name' twice"),
    Case("broken off", f'{SAID} {{"name": "Ada", "age": 3', why="breaks off"),
    Case("brackets without end", "[" * 20_000, why="no valid JSON"),
    Case("a fence of line breaks", "```json" + "\n" * 20_000, why="no valid JSON"),
]
