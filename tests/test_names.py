"""A public class name means one thing in the whole pack."""

import ast
from collections import defaultdict
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent
OUTSIDE = {"tests", "benchmarks"}


def public_classes() -> dict[str, set[str]]:
    """Name of a public class -> the files that define one of that name."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACK.rglob("*.py"):
        place = path.relative_to(PACK)
        if place.parts[0] in OUTSIDE or any(part.startswith(".") for part in place.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].add(place.as_posix())
    return found


def test_no_public_class_name_means_two_things():
    twice = {name: sorted(files) for name, files in public_classes().items() if len(files) > 1}
    assert not twice, "give the less public one a more telling name"


def test_the_classes_that_everybody_knows_are_seen():
    names = public_classes()
    assert {"Judge", "ComfyClient", "DiptychLayout"} <= names.keys()
