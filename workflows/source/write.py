"""Writes every workflow file: `nox -s workflows`."""

import json
import urllib.request
from pathlib import Path

from . import carried
from .edit import icedit, icedit_early_filter, icedit_fast, icedit_moe
from .graph import Graph, NodeInfo
from .grid import icedit_grid
from .mixed_sizes import icedit_mixed_sizes
from .page import blueprint, page
from .teach import icedit_teach
from .text_to_image import icedit_inversion, icedit_text_to_image
from .turns import icedit_multi_turn, turn_blueprint
from .where import icedit_say_where, region_blueprint

PACK = Path(__file__).resolve().parents[2]

WORKFLOWS = (
    icedit,
    icedit_moe,
    icedit_fast,
    icedit_early_filter,
    icedit_multi_turn,
    icedit_mixed_sizes,
    icedit_say_where,
    icedit_grid,
    icedit_text_to_image,
    icedit_inversion,
    icedit_teach,
)
BLUEPRINTS = (turn_blueprint, region_blueprint)


def files(info: NodeInfo) -> dict[Path, str]:
    """Every generated file's path in the pack with its content."""
    graphs: list[Graph] = [make(info) for make in WORKFLOWS]
    blueprints: list[Graph] = [make(info) for make in BLUEPRINTS]
    contents = {
        **{f"workflows/{graph.name}.json": page(graph) for graph in graphs},
        **{f"workflows/api/{graph.name}.json": graph.api() for graph in graphs},
        # The page looks for a pack's blueprints here.
        **{f"subgraphs/{graph.name}.json": blueprint(graph) for graph in blueprints},
    }
    return {Path(path): json.dumps(content, indent=2, ensure_ascii=False) + "\n" for path, content in contents.items()}


def node_info(url: str) -> NodeInfo:
    """The node definitions of a running server."""
    with urllib.request.urlopen(f"{url}/object_info") as answer:
        return json.load(answer)


def main() -> None:
    """Write the files from the node definitions of the embedded ComfyUI."""
    # Run from the repository's root, where `private_host` is a package of its own.
    from private_host.environment import Environment
    from private_host.server import running_server

    with running_server(Environment.of_this_process(), PACK / "mini" / "models") as server:
        info = node_info(server.url)
    for path, content in files(info).items():
        (PACK / path).parent.mkdir(exist_ok=True)
        (PACK / path).write_text(content, encoding="utf-8")
    carried.main()


if __name__ == "__main__":
    main()
