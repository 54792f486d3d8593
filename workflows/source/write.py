"""Writes every workflow file: `nox -s workflows`."""

import json
import urllib.request
from pathlib import Path

from .edit import icedit, icedit_early_filter, icedit_moe
from .graph import Graph, NodeInfo
from .text_to_image import icedit_inversion, icedit_text_to_image

FOLDER = Path(__file__).resolve().parent.parent

WORKFLOWS = (icedit, icedit_moe, icedit_early_filter, icedit_text_to_image, icedit_inversion)


def files(info: NodeInfo) -> dict[Path, str]:
    """Every generated file's path below workflows/ with its content."""
    graphs: list[Graph] = [make(info) for make in WORKFLOWS]
    return {
        path: json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        for graph in graphs
        for path, content in (
            (Path(f"{graph.name}.json"), graph.page()),
            (Path("api") / f"{graph.name}.json", graph.api()),
        )
    }


def node_info(url: str) -> NodeInfo:
    """The node definitions of a running server."""
    with urllib.request.urlopen(f"{url}/object_info") as answer:
        return json.load(answer)


def main() -> None:
    """Write the files from the node definitions of the embedded ComfyUI."""
    # Run from the repository's root, where `headless` is a package of its own.
    from headless.embedded import embedded_server

    with embedded_server() as server:
        info = node_info(server.url)
    for path, content in files(info).items():
        (FOLDER / path).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
