"""Tasks. `nox -s edit` edits a picture, `nox -s teach` trains on pairs of pictures, `nox -s tests` runs all tests,
`nox -s lint types` checks the code, `nox -s workflows` rewrites the workflow files, `nox -s train` trains the mini
models, `nox -s benchmark` runs a benchmark. Everything that is installed or downloaded lives in the user's cache."""

import json
import runpy
from pathlib import Path

import nox

CACHE = runpy.run_path(str(Path(__file__).parent / "private_host" / "cache.py"))["cache_dir"]()
CLIENT = "headless/requirements.txt"
RAY = "headless/requirements-ray.txt"
# The folder may have any name; its own folders import each other relatively.
TRAIN = "import os, runpy, sys; sys.path[0] = '..'; here = os.path.basename(os.getcwd()); "
TRAIN += "runpy.run_module(here + '.mini.train', run_name='__main__')"

PAGE_TESTS = (
    "tests/test_page.py",
    "tests/test_page_runs.py",
    "tests/test_page_results.py",
    "tests/test_page_pick.py",
    "tests/test_help_page.py",
)
# Two processes, each with its own ComfyUI: the tests of one file share its server. More want too much memory.
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile")

nox.options.envdir = str(CACHE / "nox")
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]


@nox.session
def edit(session: nox.Session) -> None:
    """Edit a picture: `nox -s edit -- --picture cat.png --instruction "make it blue" --server http://127.0.0.1:8188`."""
    session.install("--quiet", "-r", CLIENT)
    if any(argument.split("=")[0] == "--ray" for argument in session.posargs):
        session.install("--quiet", "-r", RAY)
    elif any(argument.endswith("parquet") for argument in session.posargs):
        session.install("--quiet", "pyarrow>=17")
    # nox prints the commands that it runs, and an address may hold a password.
    session.run("python", "-m", "headless", env={"ICEDIT_ARGUMENTS": json.dumps(session.posargs)})


@nox.session
def teach(session: nox.Session) -> None:
    """Train on pairs of pictures: `nox -s teach -- --pairs before after --name my_edit --server http://127.0.0.1:8188`."""
    session.install("--quiet", "-r", CLIENT)
    session.run("python", "-m", "headless", env={"ICEDIT_ARGUMENTS": json.dumps(["teach", *session.posargs])})


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests against the newest known ComfyUI. Options go to pytest: `nox -s tests -- -k diptych`."""
    _in_host(session, "-m", "pytest", "tests", *SIDE_BY_SIDE, *session.posargs)


@nox.session
def tests_oldest(session: nox.Session) -> None:
    """Run the tests against the oldest supported ComfyUI."""
    _in_host(session, "-m", "pytest", "tests", *SIDE_BY_SIDE, *session.posargs, host="0.16.3")


@nox.session
def tests_newest_page(session: nox.Session) -> None:
    """Run the page's tests on the newest page, which is newer than the one that the newest known ComfyUI comes with."""
    _in_host(session, "-m", "pytest", *PAGE_TESTS, *SIDE_BY_SIDE, *session.posargs, page="1.58.1")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    _in_host(session, "-m", "ruff", "check", ".")
    _in_host(session, "-m", "ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    _in_host(session, "-m", "basedpyright")


@nox.session
def workflows(session: nox.Session) -> None:
    """Rewrite the workflow files from workflows/source."""
    _in_host(session, "-m", "workflows.source.write")


@nox.session
def train(session: nox.Session) -> None:
    """Train the mini models again, from nothing: about seven hours on a CPU. A stopped training goes on."""
    _in_host(session, "-c", TRAIN, "--work", str(CACHE / "mini-training"), *session.posargs)


@nox.session
def benchmark(session: nox.Session) -> None:
    """Run a script of benchmarks/: `nox -s benchmark -- moe_lora.py layer`; or one of the field's own benchmarks with
    any workflow: `nox -s benchmark -- gedit PATH --server http://127.0.0.1:8188`."""
    if not session.posargs:
        session.error("Say which script after --, for example: nox -s benchmark -- moe_lora.py layer")
    script, *arguments = session.posargs
    if script.endswith(".py"):
        _in_host(session, f"benchmarks/{script}", *arguments)
    else:
        # As for edit: nox prints commands, and an address may hold a password.
        session.env["ICEDIT_ARGUMENTS"] = json.dumps(session.posargs)
        _in_host(session, "benchmarks/field_benchmark.py")


def _in_host(session: nox.Session, *arguments: str, host: str = "0.30.0", page: str = "") -> None:
    """Run the interpreter of the environment that has ComfyUI and the tools."""
    session.install("--quiet", "-r", CLIENT)
    requirements = ("-r", CLIENT, "-r", "tests/requirements.txt")
    versions = ("--host", host, *(("--page", page) if page else ()))
    # Threads of several processes that wait for each other take longer than one thread each.
    env = {"OMP_NUM_THREADS": "1"} if "-n" in arguments else {}
    session.run("python", "-m", "private_host.environment", *versions, *requirements, "--", *arguments, env=env)
