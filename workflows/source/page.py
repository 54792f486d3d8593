"""The file format of the ComfyUI page: workflows, the subgraphs in them, and blueprints of subgraphs."""

import uuid
from typing import Any

from .graph import MATCHING, NOTE, Graph, Node, Output, Port, Subgraph, default, is_widget

Links = list[list[Any]]
"""Each link: id, origin node and slot, target node and slot, type."""

NOTE_COLORS = {"color": "#432", "bgcolor": "#000"}
INPUTS, OUTPUTS = -10, -20
"""The ids of the nodes that stand for a subgraph's inputs and outputs."""
EDGE_WIDTH = 160
VIEW_TOP = 120
"""The screen position of the topmost frame when a workflow opens, below the page's bars."""


def page(graph: Graph) -> dict[str, Any]:
    """A workflow file."""
    shown = [node for node in graph.nodes if node.in_page]
    links = _links(graph, shown)
    subgraphs = [definition(node.inside) for node in shown if node.inside is not None]
    definitions = {"definitions": {"subgraphs": subgraphs}} if subgraphs else {}
    top = min((frame["bounding"][1] for frame in graph.groups), default=-40)
    return {
        "id": _stable_id(graph.name),
        "revision": 0,
        "last_node_id": max(_largest_id(node) for node in shown),
        "last_link_id": len(links),
        "nodes": [_page_node(graph, node, order, links) for order, node in enumerate(shown)],
        "links": links,
        "groups": graph.groups,
        **definitions,
        "config": {},
        "extra": {"ds": {"scale": 0.6, "offset": [620, VIEW_TOP - top]}},
        "version": 0.4,
    }


def blueprint(graph: Graph) -> dict[str, Any]:
    """The file that adds the graph's only node, a subgraph, to the page's node library under the file's name."""
    (node,) = graph.nodes
    assert node.inside is not None
    about = {
        "BlueprintDescription": node.inside.description,
        "BlueprintSearchAliases": list(node.inside.search_aliases),
    }
    content = page(graph)
    return {**content, "extra": {**content["extra"], **about}}


def definition(subgraph: Subgraph) -> dict[str, Any]:
    """A subgraph's definition."""
    links = _links(subgraph, subgraph.nodes)
    for slot, output in enumerate(subgraph.outputs.values()):
        end = [output.node.id, subgraph.slot(output), OUTPUTS, slot, subgraph.type_of(output)]
        links.append([len(links) + 1, *end])
    left = min(node.position[0] for node in subgraph.nodes)
    right = max(node.position[0] + node.size[0] for node in subgraph.nodes)
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return {
        "id": _subgraph_id(subgraph),
        "version": 1,
        "state": {
            "lastGroupId": len(subgraph.groups),
            "lastNodeId": max(node.id for node in subgraph.nodes),
            "lastLinkId": len(links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": subgraph.name,
        "inputNode": {"id": INPUTS, "bounding": [left - 2 * EDGE_WIDTH, 60, EDGE_WIDTH, 60 + 20 * len(subgraph.ports)]},
        "outputNode": {
            "id": OUTPUTS,
            "bounding": [right + EDGE_WIDTH, 60, EDGE_WIDTH, 60 + 20 * len(subgraph.outputs)],
        },
        "inputs": [
            _edge_slot(
                subgraph, name, _type_name(subgraph.spec(name)), [link for link in links if link[1:3] == [INPUTS, slot]]
            )
            for slot, name in enumerate(subgraph.ports)
        ],
        "outputs": [
            _edge_slot(
                subgraph, name, subgraph.type_of(output), [link for link in links if link[3:5] == [OUTPUTS, slot]]
            )
            for slot, (name, output) in enumerate(subgraph.outputs.items())
        ],
        "widgets": [],
        "nodes": [_page_node(subgraph, node, order, links) for order, node in enumerate(subgraph.nodes)],
        "groups": subgraph.groups,
        "links": [dict(zip(names, link, strict=True)) for link in links],
        "extra": {},
        "category": "ICEdit",
        "description": subgraph.description,
    }


def _edge_slot(subgraph: Subgraph, name: str, kind: str, links: Links) -> dict[str, Any]:
    return {
        "id": _stable_id(f"{subgraph.name}/{subgraph.first_id}/{name}"),
        "name": name,
        "type": kind,
        "linkIds": [link[0] for link in links],
    }


def _links(graph: Graph, shown: list[Node]) -> Links:
    links: Links = []
    for node in shown:
        if node.kind == NOTE:
            continue
        for slot, (name, _) in enumerate(graph.inputs(node)):
            value = node.values.get(name)
            if isinstance(value, Output):
                origin, kind = [value.node.id, graph.slot(value)], graph.type_of(value)
            elif isinstance(value, Port):
                assert isinstance(graph, Subgraph)
                origin, kind = [INPUTS, graph.ports.index(value.name)], _type_name(graph.spec(value.name))
            else:
                continue
            links.append([len(links) + 1, *origin, node.id, slot, kind])
    return links


def _page_node(graph: Graph, node: Node, order: int, links: Links) -> dict[str, Any]:
    known = node.kind != NOTE
    page_node: dict[str, Any] = {
        "id": node.id,
        "type": node.kind if node.inside is None else _subgraph_id(node.inside),
        "pos": list(node.position),
        "size": list(node.size),
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": _page_inputs(graph, node, links) if known else [],
        "outputs": _page_outputs(graph, node, links) if known else [],
        "properties": _properties(graph, node) if known else {},
        "widgets_values": _widget_values(graph, node) if known else list(node.values.values()),
    }
    if node.title:
        page_node["title"] = node.title
    return page_node if known else page_node | NOTE_COLORS


def _page_inputs(graph: Graph, node: Node, links: Links) -> list[dict[str, Any]]:
    incoming = {link[4]: link for link in links if link[3] == node.id}
    entries = []
    for slot, (name, spec) in enumerate(graph.inputs(node)):
        link = incoming.get(slot)
        kind = _type_name(spec)
        entry: dict[str, Any] = {
            "name": name,
            "type": link[5] if link and kind == MATCHING else kind,
            "link": link[0] if link else None,
        }
        if is_widget(spec):
            entry["widget"] = {"name": name}
        elif name in graph.info[node.kind]["input"].get("optional", {}):
            entry["shape"] = 7
        entries.append(entry)
    if _has_upload(graph, node):
        # Pages of ComfyUI 0.16 add a missing one to the blueprint itself, which then cannot be added a second time.
        entries.append({"name": "upload", "type": "IMAGEUPLOAD", "link": None, "widget": {"name": "upload"}})
    return entries


def _page_outputs(graph: Graph, node: Node, links: Links) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "type": graph.type_of(node[name]),
            "links": [link[0] for link in links if link[1] == node.id and link[2] == slot],
        }
        for slot, name in enumerate(graph.info[node.kind]["output_name"])
    ]


def _properties(graph: Graph, node: Node) -> dict[str, Any]:
    ours = graph.info[node.kind]["python_module"].startswith("custom_nodes")
    properties: dict[str, Any] = {"cnr_id": "comfyui-icedit" if ours else "comfy-core"}
    if node.inside is None:
        properties = {"Node name for S&R": node.kind, **properties}
    if node.models:
        properties["models"] = node.models
    return properties


def _widget_values(graph: Graph, node: Node) -> list[Any]:
    values: list[Any] = []
    for name, spec in graph.inputs(node):
        if not is_widget(spec):
            continue
        value = node.values.get(name, default(spec))
        if isinstance(value, Port):
            assert isinstance(graph, Subgraph)
            value = graph.value(value)
        values.append(default(spec) if isinstance(value, Output) else value)
        if name in ("seed", "noise_seed") and node.inside is None:
            values.append(node.seed_control)
    return [*values, "image"] if _has_upload(graph, node) else values


def _has_upload(graph: Graph, node: Node) -> bool:
    """Whether the page adds an upload button, after all other widgets and inputs."""
    required = graph.info[node.kind]["input"].get("required", {})
    return any(len(spec) > 1 and spec[1].get("image_upload") for spec in required.values())


def _type_name(spec: list[Any]) -> str:
    return "COMBO" if isinstance(spec[0], list) else spec[0]


def _subgraph_id(subgraph: Subgraph) -> str:
    return _stable_id(f"{subgraph.name}/{subgraph.first_id}")


def _stable_id(name: str) -> str:
    """An id made from the name, so that it is the same in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"comfyui-icedit/{name}"))


def _largest_id(node: Node) -> int:
    return max([node.id, *(_largest_id(inner) for inner in (node.inside.nodes if node.inside else ()))])
