"""Reading what servers send without trusting its form: it may come from another program or version."""

import json
import math
from collections.abc import Mapping
from typing import Any


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object in the text; None if there is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def json_list(text: str | bytes) -> list[Any]:
    """The JSON list in the text; an empty one if there is none."""
    try:
        return items(json.loads(text))
    except (ValueError, RecursionError):
        return []


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """The value where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def count(value: Any) -> int | None:
    """The value as a whole number, where it is a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return int(value)


def refusal(answer: Any) -> str | None:
    """The server's reasons for refusing a workflow, one a line."""
    error = mapping(answer).get("error")
    if error is None:
        return None
    told = mapping(error)
    lines = [str(told.get("message", "The server refused the workflow.")) if told else str(error)]
    for node, report in mapping(answer.get("node_errors")).items():
        kind = mapping(report).get("class_type")
        for problem in map(mapping, items(mapping(report).get("errors"))):
            lines.append(f"  node {node} ({kind}): {problem.get('message')}: {problem.get('details')}")
    if len(lines) == 1 and told.get("details"):
        lines.append(f"  {told['details']}")
    return "\n".join(lines)


def failure(kind: Any, data: Any) -> str | None:
    """Why a prompt ended early, from a message about it; None if the message says nothing of the kind."""
    if kind == "execution_interrupted":
        return "The run was interrupted on the server."
    if kind == "execution_error":
        told = mapping(data)
        reason = str(told.get("exception_message", "")).strip()
        return f"The server failed in node {told.get('node_id')} ({told.get('node_type')}): {reason}"
    return None


def recorded_failure(entry: Mapping[str, Any]) -> str | None:
    """Why the prompt of an entry of the history ended early; None if it did not."""
    status = mapping(entry.get("status"))
    for message in items(status.get("messages")):
        if isinstance(message, list) and len(message) == 2 and (reason := failure(*message)):
            return reason
    if status.get("status_str") == "error":
        return "The server failed to run the workflow and has not recorded why; its log says more."
    return None


def recorded_seconds(entry: Mapping[str, Any]) -> float | None:
    """From the start of a prompt of the history to its end; None if the server has not recorded it."""
    times: dict[Any, int] = {}
    for message in items(mapping(entry.get("status")).get("messages")):
        if isinstance(message, list) and len(message) == 2:
            time = count(mapping(message[1]).get("timestamp"))
            if time is not None:
                times[str(message[0])] = time
    start, end = times.get("execution_start"), times.get("execution_success")
    return None if start is None or end is None or end < start else (end - start) / 1000


def queued(queue: Mapping[str, Any], part: str) -> list[tuple[float, str]]:
    """Order and id of the prompts in a part of the queue, the next one first."""
    found = [item for item in items(queue.get(part)) if isinstance(item, list) and len(item) > 1]
    return sorted((item[0] if count(item[0]) is not None else 0, str(item[1])) for item in found)
