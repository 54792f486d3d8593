"""A public name of a class or a type means one thing in the whole pack."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent
OUTSIDE = {"tests", "benchmarks"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in PACK.rglob("*.py"):
        place = path.relative_to(PACK)
        if place.parts[0] not in OUTSIDE and not any(part.startswith(".") for part in place.parts):
            yield place.as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def public_classes() -> dict[str, set[str]]:
    """Name of a public class -> the files that define one of that name."""
    found: dict[str, set[str]] = defaultdict(set)
    for place, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].add(place)
    return found


def type_names() -> dict[str, set[str]]:
    """Name of a type made of others -> what it stands for; types of ports are named after what they carry."""
    found: dict[str, set[str]] = defaultdict(set)
    for _, tree in modules():
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(name)], value=value) if re.fullmatch("[A-Z][a-z][A-Za-z]+", name):
                    meaning = ast.unparse(value)
                    if not meaning.startswith("io.Custom("):
                        found[name].add(meaning)
    return found


def test_no_public_class_name_means_two_things():
    twice = {name: sorted(files) for name, files in public_classes().items() if len(files) > 1}
    assert not twice, "give the less public one a more telling name"


def test_no_type_has_the_name_of_a_class_or_of_another_type():
    types = type_names()
    twice = {name: meanings for name, meanings in types.items() if len(meanings) > 1}
    assert not twice, "give the less public one a more telling name"
    assert not types.keys() & public_classes().keys()


def test_the_classes_that_everybody_knows_are_seen():
    names = public_classes()
    assert {"Judge", "ComfyClient", "DiptychLayout"} <= names.keys()
    assert {"Mode", "Workflow", "Poll"} <= type_names().keys()
