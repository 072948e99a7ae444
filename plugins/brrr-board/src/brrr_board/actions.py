"""The actions of an operator on dead letters: redrive, drop, complete by hand."""

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from brrr_core import AppConsumer
from brrr_core.errors import ArgumentError

__all__ = ["act", "read_arguments"]

JSON_REMEDY: Final = 'Write values such as 42, "text", [1, 2] or null.'

LETTER_ACTIONS: Final = ("redrive", "drop", "complete")
"""The actions on one dead letter. `redrive-all` acts on all of a topic."""


async def act(client: AppConsumer, form: Mapping[str, str]) -> str:
    """Run the action of a form. Return the key of the sentence in `MESSAGES` that the next page shows.

    A button names the action, and its value is the id of the dead letter. `redrive-all` has no id.

    Args:
        client: A client.
        form: The fields: `topic`, one action, and for `complete` the JSON text `result`.

    Raises:
        ArgumentError: The form has no topic or no action, or the result is not JSON.
        EncodeError: The result does not fit the task.
        CapabilityError: The queue cannot find dead letters by their ids.
        BackendError: A backend failed. Repeating the action is safe.
    """
    topic = form.get("topic", "")
    if "redrive-all" in form:
        count = await client.dead_letters(topic).redrive(failed=True)
        return "all-redriven" if count else "gone"
    for action in LETTER_ACTIONS:
        if action in form:
            return await _on_letter(client, topic, action, form[action], form.get("result", ""))
    raise ArgumentError("the form has no action", remedy="Use the buttons of the board.")


async def _on_letter(client: AppConsumer, topic: str, action: str, letter: str, result: str) -> str:
    chosen = client.dead_letters(topic, ids=[letter])
    if action == "redrive":
        return "redriven" if await chosen.redrive(failed=True) else "gone"
    if action == "drop":
        return "dropped" if await chosen.drop() else "gone"
    done = await chosen.complete(read_json("the result", result))
    return "completed" if done.completed else "kept" if done.kept else "gone"


def read_json(what: str, text: str) -> Any:
    """Return the value of a JSON text.

    Args:
        what: The name of the text, for the error.
        text: The text.

    Raises:
        ArgumentError: It is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{what} is not valid JSON", remedy=JSON_REMEDY) from error


def read_arguments(query: Mapping[str, str]) -> tuple[list[object], dict[str, object]]:
    """Return the arguments and keyword arguments of a call that a search names.

    Raises:
        ArgumentError: They are not JSON.
    """
    args: list[object] = read_json("the arguments", f"[{query.get('arguments', '')}]")
    kwargs: object = read_json("the keyword arguments", query.get("keywords") or "{}")
    if not isinstance(kwargs, dict):
        raise ArgumentError("the keyword arguments are not a JSON object", remedy='Write an object such as {"n": 7}.')
    return args, cast("dict[str, object]", kwargs)
