"""All edits on Ray: the manifest is a dataset, actors with a server each make its pictures, which are written here."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..address import ServerAddress
from ..errors import ComfyError, ManifestError
from . import ray_actor
from .limits import FailuresInARow, TimeLimit
from .manifest import ManifestRow
from .plan import added_places
from .results import MadePicture
from .run import ManifestRun
from .servers import DEPTH

log = logging.getLogger(__name__)

PACK = Path(__file__).resolve().parent.parent.parent
LOCAL = "local"
BLOCKS = 10_000
"""Rows are handed out one by one up to this number of them: an actor that dies takes what it was given with it."""
LEFT_LIMIT = 4
"""Edits in a row that are left, each after minutes of asking all servers."""
NOT_SENT = [".git", "**/__pycache__", "/tests", "/benchmarks", "/web"]


@dataclass(frozen=True)
class RayOptions:
    """How a run uses Ray.

    Args:
        address: of the cluster, or LOCAL.
        actors: how many; None for one per given server, per GPU, or per processor core for the mini models.
        own: for `embedded.started_server`, where no servers are given: ComfyUI's folder, its Python, its options.
    """

    address: str
    actors: int | None
    servers: tuple[ServerAddress, ...]
    own: tuple[str | None, str | None, list[str]]


def run_on_ray(
    options: RayOptions, run: ManifestRun, on_done: Callable[[bool], None], limit: TimeLimit, in_a_row: FailuresInARow
) -> None:
    """Make the edits that have no line yet. Actors that die are started again, and their rows given to others, by Ray.

    Raises:
        ManifestError: Ray is not installed, or a node lacks an input.
        ComfyError: Ray could not go on, or all edits fail for the same reason.
        OutputError: nothing can be saved any more.
    """
    with _connected(options) as ray:
        run.begin()
        left = 0
        try:
            for answer in _dataset(ray, options, run, limit).iter_rows():
                left = left + 1 if answer["left"] else 0
                if left == LEFT_LIMIT:
                    raise ComfyError(f"No server answers any more: {answer['error']} Run the same command again later.")
                _keep(answer, run, on_done, in_a_row)
        except ray.exceptions.RayError as error:
            raise ComfyError(f"Ray ended the run: {error}") from error


@contextmanager
def _connected(options: RayOptions) -> Iterator[Any]:
    # Ray reports its use to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        # Not at the top: few need it, and it is large.
        import ray
        import ray.data
    except ImportError as error:
        raise ManifestError(
            f"--ray takes the package ray: pip install -r {PACK / 'headless' / 'requirements-ray.txt'}"
        ) from error
    # The machines of a cluster get this pack; the pictures must be at the same path everywhere.
    elsewhere = {"runtime_env": {"working_dir": str(PACK), "excludes": NOT_SENT}}
    local = {"include_dashboard": False}
    try:
        ray.init(
            address=options.address,
            logging_level=logging.WARNING,
            log_to_driver=False,
            **(local if options.address == LOCAL else elsewhere),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ComfyError(f"There is no Ray cluster at {options.address}: {error}") from error
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # It tells of every data set's begin and end, between the lines of our own progress.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield ray
    finally:
        ray.shutdown()


def _dataset(ray: Any, options: RayOptions, run: ManifestRun, limit: TimeLimit) -> Any:
    """The answers of the actors, in the order in which they come."""
    ray.cloudpickle.register_pickle_by_value(ray_actor)
    todo = [{"row": row.to_json()} for row in run.todo]
    own_gpu = not options.servers and not run.plan.settings.mini and ray.cluster_resources().get("GPU", 0) >= 1
    pool = ray.data.ActorPoolStrategy(
        size=min(_actors(ray, options, own_gpu), len(todo)),
        max_tasks_in_flight_per_actor=DEPTH,
        max_concurrent_calls_per_actor=DEPTH,
        enable_true_multi_threading=True,
    )
    numbers = ray.remote(num_cpus=0)(ray_actor.ServerNumbers).remote(max(1, len(options.servers)))
    servers = [(one.url, one.headers, one.query, one.secrets) for one in options.servers]
    added = [(*place, row) for place, row in added_places(run.plan, run.manifest.rows).items()]
    arguments = (str(PACK), run.plan.to_json(), str(run.manifest.folder), servers, options.own, added, numbers)
    arguments += (limit.given,)
    return ray.data.from_items(todo, override_num_blocks=min(len(todo), BLOCKS)).map(
        ray_actor.EditActor, fn_constructor_args=arguments, compute=pool, num_gpus=1 if own_gpu else None
    )


def _actors(ray: Any, options: RayOptions, own_gpu: bool) -> int:
    return int(options.actors or len(options.servers) or ray.cluster_resources().get("GPU" if own_gpu else "CPU", 1))


def _keep(answer: dict[str, Any], run: ManifestRun, on_done: Callable[[bool], None], in_a_row: FailuresInARow) -> None:
    row = ManifestRow.from_json(answer["row"])
    if answer["left"]:
        log.warning("The edit %s is left: %s", row.id, answer["error"])
        return
    if row.id in run.results.done:
        # Ray gives a row of an actor that died to another one; should both answer, the first counts.
        return
    if answer["error"]:
        run.results.keep_failure(row, answer["error"], None)
        if answer["servers"]:
            in_a_row.failed(answer["error"])
    else:
        made = MadePicture(answer["picture"], **json.loads(answer["how"]))
        run.results.keep_picture(row, made)
        run.server(made.server).add(made.seconds)
        in_a_row.made()
    on_done(not answer["error"])
