"""The three floors: nodes on host on logic, no import upwards."""

import ast
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parent.parent
LOGIC = (
    "diptych", "moe_lora", "early_filter", "inversion", "known_tokens", "training", "headless", "private_host"
)  # fmt: skip
ALSO_IMPORTS = {"headless": {"private_host", "training"}}
"""What a logic folder imports besides itself: the command line starts a private host where no server is named, and
reads lists of pairs."""
HOST_MODULES = {
    "comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths", "latent_preview",
    "node_helpers", "nodes", "server",
}  # fmt: skip
HEAVY = {
    "transformers", "huggingface_hub", "scipy", "kornia", "skimage", "torchvision", "aiohttp", "requests", "pyarrow",
}  # fmt: skip
RUNS_ON_HOST = "private_host/text_encoders/__init__.py"


def python_files(folder: str) -> list[Path]:
    return [path for path in sorted((PACK / folder).rglob("*.py")) if str(path.relative_to(PACK)) != RUNS_ON_HOST]


def imports(path: Path, nested: bool = True) -> set[str]:
    """Imported modules as dotted paths from the pack's root ("." for the pack itself), or absolute names."""
    package = path.relative_to(PACK).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {"." + ".".join([*base, name]) for name in names}
    return found


def test_the_reader_of_imports_sees_both_kinds(tmp_path):
    assert ".host" in {".".join(name.split(".")[:2]) for name in imports(PACK / "nodes" / "diptych.py")}
    assert "node_helpers" in imports(PACK / "host" / "conditioning.py")


@pytest.mark.parametrize("folder", LOGIC)
def test_logic_imports_neither_host_nor_nodes_nor_other_logic(folder):
    for path in python_files(folder):
        for name in imports(path):
            if name.startswith("."):
                assert name.split(".")[1] in {folder, *ALSO_IMPORTS.get(folder, ())}, f"{path} imports {name}"
            else:
                assert name.split(".")[0] not in HOST_MODULES, f"{path} imports {name}"


def test_host_does_not_import_nodes():
    for path in python_files("host"):
        assert not [name for name in imports(path) if name.startswith(".nodes")], path


FEATURES = sorted(path.name for path in (PACK / "host").iterdir() if (path / "__init__.py").exists())


def test_host_has_rooms_for_its_features():
    assert {"moe_lora", "early_filter", "inversion", "judges"} <= set(FEATURES)


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_of_host_imports_no_other_one(feature):
    """Its logic folder, and the flat files that all share: what two features need moves up."""
    for path in python_files(f"host/{feature}"):
        for name in imports(path):
            parts = name.split(".")
            if name.startswith(".host.") and len(parts) > 2 and parts[2] in FEATURES:
                assert parts[2] == feature, f"{path} imports {name}"


def test_the_flat_files_of_host_import_no_feature():
    for path in sorted((PACK / "host").glob("*.py")):
        for name in imports(path):
            assert not (name.startswith(".host.") and name.split(".")[2] in FEATURES), f"{path} imports {name}"


def test_nodes_reach_the_host_only_through_our_host_folder():
    for path in python_files("nodes"):
        absolute = {name.split(".")[0] for name in imports(path) if not name.startswith(".")}
        assert not absolute & (HOST_MODULES - {"comfy_api"}), path


@pytest.mark.parametrize(
    "folder", ["nodes", "host", "diptych", "moe_lora", "early_filter", "inversion", "known_tokens", "training"]
)
def test_nothing_heavy_is_imported_with_the_nodes(folder):
    for path in python_files(folder):
        heavy = {name.split(".")[0] for name in imports(path, nested=False)} & HEAVY
        assert not heavy, f"{path} imports {heavy} at its top"


def test_only_tests_and_benchmarks_import_the_mini_models():
    for folder in ("nodes", "host", *LOGIC):
        for path in python_files(folder):
            assert not [name for name in imports(path) if name.startswith(".mini")], path


TAUGHT_ON_HOST = PACK / "mini" / "adapters.py"
"""The adapters of the mini models are trained by the pack's own trainer."""


def test_the_mini_models_need_no_host_and_of_the_pack_the_sentence_alone():
    for path in set(python_files("mini")) - {TAUGHT_ON_HOST}:
        for name in imports(path):
            assert name.split(".")[0] not in HOST_MODULES, f"{path} imports {name}"
            assert not name.startswith(".") or name == ".diptych.prompt" or name.startswith(".mini"), path
