"""The table at the end of a run."""

import time
from collections.abc import Sequence

from .results import FAILED, LINES, OK
from .run import ManifestRun
from .work import ServerState


def closing_table(run: ManifestRun) -> str:
    """How many edits are made, have failed and are left, and what each server did."""
    made, failed, left = run.count(OK), run.count(FAILED), run.left
    parts = [f"{run.total} edits: {made} made", f"{failed} failed", *([f"{left} left"] if left else [])]
    lines = [f"{', '.join(parts)}."]
    if run.began is not None:
        now, seconds = run.total - left - run.before, time.monotonic() - run.began
        lines.append(f"{now} of them now, in {_time(seconds)}{_rate(now, seconds)}.")
        lines += _servers(run.servers, seconds) if run.servers else []
    lines.append(f"Their lines are in {run.results.folder / LINES}.")
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
