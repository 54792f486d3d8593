"""The benchmarks, which nobody runs with the tests, keep up with the pack."""

import ast
import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).resolve().parent.parent / "benchmarks").rglob("*.py"))


@pytest.mark.host
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_what_a_benchmark_takes_from_the_pack_is_there(host, path):
    """They import inside functions, where neither the interpreter nor the type checker looks before they are run."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("icedit", "support"):
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            submodules = {f"{node.module}.{name}" for name in missing}
            assert all(importlib.util.find_spec(name) for name in submodules), f"{node.module} has no {missing}"
