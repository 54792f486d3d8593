"""The table at the end of a run."""

import time
from collections.abc import Sequence

from .results import FAILED, LINES, OK, ResultsFolder
from .servers import ServersRun
from .work import ServerState


def closing_table(total: int, results: ResultsFolder, before: int, runs: Sequence[ServersRun]) -> str:
    """How many edits are made, have failed and are left, and what each server did.

    Args:
        before: edits that had their line when the run began.
        runs: what was done now; none where nothing was left to do, or no server was there.
    """
    statuses = list(results.done.values())
    made, failed, left = statuses.count(OK), statuses.count(FAILED), total - len(statuses)
    parts = [f"{total} edits: {made} made", f"{failed} failed", *([f"{left} left"] if left else [])]
    lines = [f"{', '.join(parts)}."]
    for run in runs:
        now, seconds = len(statuses) - before, time.monotonic() - run.began
        lines.append(f"{now} of them now, in {_time(seconds)}{_rate(now, seconds)}.")
        lines += _servers(run.states, seconds)
    lines.append(f"Their lines are in {results.folder / LINES}.")
    if left:
        lines.append("The same command goes on with those that are left.")
    if failed:
        lines.append("With --retry-failed it also tries those again that failed.")
    return "\n".join(lines)


def _servers(states: Sequence[ServerState], seconds: float) -> list[str]:
    width = max(len("server"), *(len(state.name) for state in states))
    lines = [f"{'server':{width}}  {'made':>7}  {'failed':>7}  {'lost':>5}  {'busy':>6}"]
    for state in states:
        busy = f"{100 * state.seconds / seconds:.0f} %"
        lines.append(f"{state.name:{width}}  {state.made:>7}  {state.failed:>7}  {state.lost:>5}  {busy:>6}")
    return lines


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _rate(count: int, seconds: float) -> str:
    if not count or not seconds:
        return ""
    rate = count / seconds
    return f" ({rate:.2f} a second)" if rate >= 1 else f" ({1 / rate:.1f} s each)"
