"""`nox -s benchmark -- gedit PATH`: a benchmark's edits made, written as its scorer expects, and measured."""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...headless import cli
from .edit import ALL, CHINESE, ENGLISH, BenchmarkError, Faults, FieldBenchmark, Setting
from .emu import EmuEditTestSet
from .gedit import GEditBench
from .imgedit import ImgEditBench
from .judging import SCORE, judge_of, judged
from .magicbrush import MagicBrush
from .pie import PIEBench
from .run import (
    EditMain,
    Given,
    StoppedError,
    first_samples,
    make_edits,
    means,
    measured,
    unique,
    write_json,
    write_results,
)

BENCHMARKS: Mapping[str, FieldBenchmark] = {
    one.name: one for one in (GEditBench(), ImgEditBench(), MagicBrush(), PIEBench(), EmuEditTestSet())
}


def main(arguments: Sequence[str], edit_main: EditMain = cli.main) -> int:
    """Run the command line; its exit status."""
    cli.make_everything_printable()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    options, others = _parsed(arguments)
    try:
        return _run(options, others, edit_main)
    except BenchmarkError as error:
        print(f"Error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"Error: {error.filename or options.output}: {error.strerror or error}", file=sys.stderr)
    except StoppedError as stopped:
        return stopped.status
    except KeyboardInterrupt:
        print("Stopped. The same command goes on.", file=sys.stderr)
        return cli.INTERRUPTED
    return cli.USAGE


def _run(options: argparse.Namespace, others: Sequence[str], edit_main: EditMain) -> int:
    benchmark, faults = BENCHMARKS[options.benchmark], Faults()
    output: Path = options.output
    setting = Setting(options.path, output / "sources", options.method, faults, options.language, options.pictures)
    judge = judge_of(options)
    edits = list(first_samples(unique(benchmark.read(setting), faults), options.limit))
    if not edits:
        raise BenchmarkError("\n".join([f"{options.path} has no edit that can be made.", *faults.lines()]))
    _tell(f"{len(edits)} edits.", faults)
    given = Given(options.masks, options.descriptions)
    made = make_edits(edits, given, output / "runs" / options.method, others, edit_main, faults)
    results = (output / "results").absolute()
    written = write_results(benchmark, edits, made, results, faults)
    measures = measured(benchmark, edits, written, faults)
    if judge is not None:
        with tqdm(total=len(written), unit="edit", desc="judge", dynamic_ncols=True) as bar:
            scores = judged(judge, edits, written, output / "judged" / f"{options.method}.jsonl", faults, bar.update)
        for name, score in scores.items():
            measures.setdefault(name, {})[SCORE] = score
    summary = {
        "benchmark": benchmark.name, "method": options.method, "edits": len(edits), "made": len(made),
        "written": len(written), "judge": judge and judge.name, "means": means(edits, measures),
        "faults": faults.found,
    }  # fmt: skip
    write_json(output / f"scores-{options.method}.json", summary)
    _close(summary, benchmark.scorer(setting, results), faults)
    return 0 if len(written) == len(edits) else cli.FAILED


def _parsed(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = cli.AddressHidingParser(
        prog="nox -s benchmark --",
        description="Run one of the field's benchmarks through any workflow and write what its public scorer expects.",
        epilog="All other options are those of nox -s edit: --server, --workflow, --set, --seed, --retry-failed and so "
        "on. The same command goes on where it ended.",
        allow_abbrev=False,
    )
    parser.add_argument("benchmark", choices=tuple(BENCHMARKS))
    parser.add_argument("path", type=Path, help="its files as they were downloaded: a folder, or the list of edits")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for everything (default: output/BENCHMARK)")
    parser.add_argument("--method", default="icedit", help="the name of the results (default: %(default)s)")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="its pictures, where they are elsewhere")
    parser.add_argument(
        "--language", choices=(ENGLISH, CHINESE, ALL), default=ENGLISH, help="of GEdit's instructions (default: en)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N samples alone, to try it out")
    parser.add_argument("--masks", action="store_true", help="give its masks to the workflow as regions")
    parser.add_argument("--descriptions", action="store_true", help="give what it says of the sources to the workflow")
    parser.add_argument("--judge-pixels", action="store_true", help="score results by the pixel judge")
    parser.add_argument("--judge-url", metavar="URL", help="score them by a model on an OpenAI-compatible server")
    parser.add_argument("--judge-model", metavar="NAME", help="the model there")
    options, others = parser.parse_known_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error("--limit is at least 1")
    for name in ("--manifest", "--picture", "--instruction"):
        if any(one == name or one.startswith(f"{name}=") for one in others):
            parser.error(f"{name} does not go with a benchmark, which has edits of its own")
    options.output = options.output or Path("output", options.benchmark)
    return options, others


def _tell(text: str, faults: Faults) -> None:
    print(text, *(f"Left out: {line}" for line in faults.lines()), sep=os.linesep, file=sys.stderr)


def _close(summary: Mapping[str, Any], scorer: str, faults: Faults) -> None:
    counts = f"{summary['edits']} edits, {summary['made']} made, {summary['written']} written for the scorer"
    lines = [f"{counts}; {faults.count} faults."]
    lines += [f"Left out: {line}" for line in faults.lines()]
    for group, named in summary["means"].items():
        lines.append(f"{group}: " + ", ".join(f"{name} {one['mean']:.4f} ({one['of']})" for name, one in named.items()))
    print(*lines, f"The scorer: {scorer}", sep="\n")
