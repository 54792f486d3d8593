"""A workflow graph, written in the page's format and in the API's, from the node definitions of a running ComfyUI."""

import uuid
from dataclasses import dataclass, field
from typing import Any

NodeInfo = dict[str, dict[str, Any]]
"""The answer of a server's /object_info."""

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "IMAGECOMPARE"}
NOTE = "MarkdownNote"
NOTE_COLORS = {"color": "#432", "bgcolor": "#000"}


@dataclass
class Node:
    """One node: its class, place and size on the canvas, and its values; an Output as a value is a link."""

    id: int
    kind: str
    position: tuple[int, int]
    size: tuple[int, int]
    values: dict[str, Any]
    title: str | None = None
    models: list[dict[str, str]] = field(default_factory=list)
    in_page: bool = True
    in_api: bool = True

    def __getitem__(self, output: str) -> "Output":
        return Output(self, output)


@dataclass(frozen=True)
class Output:
    """An output of a node, by name."""

    node: Node
    name: str


@dataclass
class Graph:
    """Nodes and groups of one workflow."""

    name: str
    info: NodeInfo
    nodes: list[Node] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, position: tuple[int, int], size: tuple[int, int], **options: Any) -> Node:
        """Add a node; `values`, `title`, `models`, `in_page`, `in_api` as in Node."""
        node = Node(len(self.nodes) + 1, kind, position, size, options.pop("values", {}), **options)
        if node.kind != NOTE:
            if node.kind not in self.info:
                raise ValueError(f"The server has no node {kind}; its log says which pack failed to load.")
            unknown = set(node.values) - {name for name, _ in self._inputs(node)}
            if unknown:
                raise ValueError(f"{kind} has no input {', '.join(sorted(unknown))}")
        self.nodes.append(node)
        return node

    def note(self, position: tuple[int, int], size: tuple[int, int], title: str, text: str) -> None:
        """Add a note for people."""
        self.add(NOTE, position, size, values={"text": text}, title=title, in_api=False)

    def group(self, title: str, bounds: tuple[int, int, int, int], color: str = "#3f789e") -> None:
        """Draw a titled frame (x, y, width, height) behind some nodes."""
        self.groups.append(
            {"id": len(self.groups) + 1, "title": title, "bounding": list(bounds), "color": color, "font_size": 24}
        )

    def api(self) -> dict[str, Any]:
        """API format."""
        return {
            str(node.id): {
                "class_type": node.kind,
                "inputs": {name: self._api_value(value) for name, value in self._values(node).items()},
                "_meta": {"title": node.title or self.info[node.kind]["display_name"]},
            }
            for node in self.nodes
            if node.in_api
        }

    def page(self) -> dict[str, Any]:
        """The page's format."""
        shown = [node for node in self.nodes if node.in_page]
        links = self._links(shown)
        return {
            # Named by its content's name, so that writing it again changes nothing.
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"comfyui-icedit/{self.name}")),
            "revision": 0,
            "last_node_id": max(node.id for node in shown),
            "last_link_id": len(links),
            "nodes": [self._page_node(node, order, links) for order, node in enumerate(shown)],
            "links": links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": {"scale": 0.6, "offset": [620, 160]}},
            "version": 0.4,
        }

    def _inputs(self, node: Node) -> list[tuple[str, Any]]:
        sections = self.info[node.kind]["input"]
        return [(name, spec) for part in ("required", "optional") for name, spec in sections.get(part, {}).items()]

    def _values(self, node: Node) -> dict[str, Any]:
        """The node's values, its other widgets at their defaults, in the order of its inputs."""
        values = {name: node.values.get(name, _default(spec)) for name, spec in self._inputs(node)}
        return {name: value for name, value in values.items() if value is not None}

    def _api_value(self, value: Any) -> Any:
        if isinstance(value, Output):
            return [str(value.node.id), self._slot(value)]
        return value

    def _slot(self, output: Output) -> int:
        return self.info[output.node.kind]["output_name"].index(output.name)

    def _links(self, shown: list[Node]) -> list[list[Any]]:
        links: list[list[Any]] = []
        for node in shown:
            if node.kind == NOTE:
                continue
            for slot, (name, _) in enumerate(self._inputs(node)):
                value = node.values.get(name)
                if isinstance(value, Output):
                    kind = self.info[value.node.kind]["output"][self._slot(value)]
                    links.append([len(links) + 1, value.node.id, self._slot(value), node.id, slot, kind])
        return links

    def _page_node(self, node: Node, order: int, links: list[list[Any]]) -> dict[str, Any]:
        known = node.kind != NOTE
        page_node: dict[str, Any] = {
            "id": node.id,
            "type": node.kind,
            "pos": list(node.position),
            "size": list(node.size),
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": self._page_inputs(node, links) if known else [],
            "outputs": self._page_outputs(node, links) if known else [],
            "properties": self._properties(node) if known else {},
            "widgets_values": self._widget_values(node) if known else list(node.values.values()),
        }
        if node.title:
            page_node["title"] = node.title
        return page_node if known else page_node | NOTE_COLORS

    def _page_inputs(self, node: Node, links: list[list[Any]]) -> list[dict[str, Any]]:
        incoming = {link[4]: link[0] for link in links if link[3] == node.id}
        entries = []
        for slot, (name, spec) in enumerate(self._inputs(node)):
            kind = "COMBO" if isinstance(spec[0], list) else spec[0]
            entry: dict[str, Any] = {"name": name, "type": kind, "link": incoming.get(slot)}
            if _is_widget(spec):
                entry["widget"] = {"name": name}
            elif name in self.info[node.kind]["input"].get("optional", {}):
                entry["shape"] = 7
            entries.append(entry)
        return entries

    def _page_outputs(self, node: Node, links: list[list[Any]]) -> list[dict[str, Any]]:
        info = self.info[node.kind]
        return [
            {"name": name, "type": kind, "links": [link[0] for link in links if link[1] == node.id and link[2] == slot]}
            for slot, (name, kind) in enumerate(zip(info["output_name"], info["output"], strict=True))
        ]

    def _properties(self, node: Node) -> dict[str, Any]:
        ours = self.info[node.kind]["python_module"].startswith("custom_nodes")
        properties: dict[str, Any] = {
            "Node name for S&R": node.kind,
            "cnr_id": "comfyui-icedit" if ours else "comfy-core",
        }
        if node.models:
            properties["models"] = node.models
        return properties

    def _widget_values(self, node: Node) -> list[Any]:
        values: list[Any] = []
        required = self.info[node.kind]["input"].get("required", {})
        upload = any(len(spec) > 1 and spec[1].get("image_upload") for spec in required.values())
        for name, spec in self._inputs(node):
            if not _is_widget(spec):
                continue
            value = node.values.get(name, _default(spec))
            values.append(_default(spec) if isinstance(value, Output) else value)
            if name in ("seed", "noise_seed"):
                values.append("randomize")
        # The page puts its upload button behind all other widgets.
        return [*values, "image"] if upload else values


def _default(spec: list[Any]) -> Any:
    """A widget's default; None for what is no widget or has none."""
    options = spec[1] if len(spec) > 1 else {}
    choices = spec[0] if isinstance(spec[0], list) else options.get("options")
    return options.get("default", choices[0] if choices else None) if _is_widget(spec) else None


def _is_widget(spec: list[Any]) -> bool:
    forced = len(spec) > 1 and spec[1].get("forceInput")
    return not forced and (isinstance(spec[0], list) or spec[0] in WIDGET_TYPES)
