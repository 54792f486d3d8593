"""A workflow graph. This file writes it in the API's format, page.py in the page's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NodeInfo = dict[str, dict[str, Any]]
"""What a server returns at /object_info."""

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "IMAGECOMPARE"}
GROWING, MATCHING = "COMFY_AUTOGROW_V3", "COMFY_MATCHTYPE_V3"
"""The type of an input that takes any number of links, and of an output that has its input's type."""
NOTE = "MarkdownNote"
TOP = 60
"""Where columns of nodes start."""
ROOM = 80
"""Free space below a node: pages draw it in different heights, and a run adds pictures and notes."""
TITLE_BAR = 30
"""The height of a node's title, which is drawn above its position."""


@dataclass
class Node:
    """One node: its class, position and size on the canvas, and its values. An Output or Port as a value is a link."""

    id: int
    kind: str
    position: tuple[int, int]
    size: tuple[int, int]
    values: dict[str, Any]
    title: str | None = None
    models: list[dict[str, str]] = field(default_factory=list)
    in_page: bool = True
    in_api: bool = True
    seed_control: str = "randomize"
    inside: "Subgraph | None" = None

    def __getitem__(self, output: str) -> "Output":
        return Output(self, output)


@dataclass(frozen=True)
class Output:
    """An output of a node, by name."""

    node: Node
    name: str


@dataclass(frozen=True)
class Port:
    """An input of the subgraph around a node, by name."""

    name: str


Link = Output | Port


@dataclass
class Graph:
    """Nodes and groups of one workflow."""

    name: str
    info: NodeInfo
    nodes: list[Node] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    first_id: int = 1

    def add(self, kind: str, position: tuple[int, int], size: tuple[int, int], **options: Any) -> Node:
        """Add a node; `values`, `title`, `models`, `in_page`, `in_api`, `seed_control`, `inside` as in Node."""
        node = Node(self.first_id + len(self.nodes), kind, position, size, options.pop("values", {}), **options)
        if node.kind != NOTE:
            if node.kind not in self.info:
                raise ValueError(f"The server has no node {kind}; its log says which pack failed to load.")
            unknown = set(node.values) - {name for name, _ in self.inputs(node)}
            if unknown:
                raise ValueError(f"{kind} has no input {', '.join(sorted(unknown))}")
        self.nodes.append(node)
        return node

    def note(self, position: tuple[int, int], size: tuple[int, int], title: str, text: str) -> None:
        """Add a note for people."""
        self.add(NOTE, position, size, values={"text": text}, title=title, in_api=False)

    def foot(self, left: int, top: int = TOP) -> int:
        """Where the column of nodes at `left` ends. Nodes above `top` belong to another column."""
        column = [node for node in self.nodes if node.in_page and node.position[0] == left and node.position[1] >= top]
        return max((node.position[1] + node.size[1] for node in column), default=top - ROOM - TITLE_BAR)

    def below(self, left: int, top: int = TOP) -> tuple[int, int]:
        """The next free position in the column at `left`."""
        return left, self.foot(left, top) + ROOM + TITLE_BAR

    def group(self, title: str, bounds: tuple[int, int, int, int], color: str = "#3f789e") -> None:
        """Add a frame with a title behind some nodes; `bounds` are x, y, width, height."""
        self.groups.append(
            {"id": len(self.groups) + 1, "title": title, "bounding": list(bounds), "color": color, "font_size": 24}
        )

    def place(self, subgraph: "Subgraph", position: tuple[int, int], size: tuple[int, int], **options: Any) -> Node:
        """Add a subgraph as one node."""
        self.info = {**self.info, subgraph.name: subgraph.as_node()}
        subgraph.given = options.get("values", {})
        return self.add(subgraph.name, position, size, inside=subgraph, **options)

    def inputs(self, node: Node) -> list[tuple[str, Any]]:
        """The node's inputs with their specs. An input that takes any number of links is listed once for each link."""
        sections = self.info[node.kind]["input"]
        listed = [(name, spec) for part in ("required", "optional") for name, spec in sections.get(part, {}).items()]
        return [
            entry
            for name, spec in listed
            for entry in ([(name, spec)] if spec[0] != GROWING else _links_of(node, name))
        ]

    def slot(self, output: Output) -> int:
        """The output's index at its node."""
        return self.info[output.node.kind]["output_name"].index(output.name)

    def type_of(self, output: Output) -> str:
        """The output's type."""
        kind = self.info[output.node.kind]["output"][self.slot(output)]
        if kind != MATCHING:
            return kind
        return self.type_of(next(value for value in output.node.values.values() if isinstance(value, Output)))

    def api(self, prefix: str = "", given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """API format. A subgraph is replaced by its nodes, with its id and a colon before theirs, as the page does.

        Args:
            prefix: the ids of the subgraphs around this graph.
            given: values of its ports, in API format.
        """
        entries: dict[str, Any] = {}
        for node in self.nodes:
            if not node.in_api:
                continue
            listed = {name: node.values.get(name, default(spec)) for name, spec in self.inputs(node)}
            values = {name: self._api_value(value, prefix, given or {}) for name, value in listed.items()}
            values = {name: value for name, value in values.items() if value is not None}
            if node.inside is not None:
                entries |= node.inside.api(f"{prefix}{node.id}:", values)
                continue
            entries[f"{prefix}{node.id}"] = {
                "class_type": node.kind,
                "inputs": values,
                "_meta": {"title": node.title or self.info[node.kind]["display_name"]},
            }
        return entries

    def _api_value(self, value: Any, prefix: str, given: Mapping[str, Any]) -> Any:
        """A node's value in API format; None for a port without one."""
        if isinstance(value, Port):
            return given.get(value.name)
        if not isinstance(value, Output):
            return value
        inside = value.node.inside
        if inside is not None:
            return inside._api_value(inside.outputs[value.name], f"{prefix}{value.node.id}:", {})
        return [f"{prefix}{value.node.id}", self.slot(value)]


@dataclass
class Subgraph(Graph):
    """A graph that is a node of another one. Its inputs are the ports that its nodes name, in the order of `ports`.

    The page numbers all nodes of a workflow together, so `first_id` is larger than all ids outside, and no two
    subgraphs share it.
    """

    ports: tuple[str, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)
    """Values of the ports, set on its node."""
    outputs: dict[str, Output] = field(default_factory=dict)
    description: str = ""
    search_aliases: tuple[str, ...] = ()

    def as_node(self) -> dict[str, Any]:
        """Its node definition in the format of /object_info."""
        return {
            "input": {"required": {name: self.spec(name) for name in self.ports}},
            "output": [self.type_of(output) for output in self.outputs.values()],
            "output_name": list(self.outputs),
            "display_name": self.name,
            "python_module": "custom_nodes",
        }

    def value(self, port: Port) -> Any:
        """What the widgets at a port show: the value set on the subgraph's node, or else the default."""
        given = self.given.get(port.name)
        return default(self.spec(port.name)) if given is None or isinstance(given, Output | Port) else given

    def spec(self, port: str) -> Any:
        """The spec of the first input that a port is connected to."""
        fed = ((node, name) for node in self.nodes for name, value in node.values.items() if value == Port(port))
        node, name = next(fed)
        return dict(self.inputs(node))[name]


def _links_of(node: Node, growing: str) -> list[tuple[str, Any]]:
    return [(name, [MATCHING]) for name in node.values if name.startswith(f"{growing}.")]


def default(spec: list[Any]) -> Any:
    """A widget's default; None when it has none, and for inputs that are no widgets."""
    options = spec[1] if len(spec) > 1 else {}
    choices = spec[0] if isinstance(spec[0], list) else options.get("options")
    return options.get("default", choices[0] if choices else None) if is_widget(spec) else None


def is_widget(spec: list[Any]) -> bool:
    """Whether an input is a widget, set on the node itself."""
    forced = len(spec) > 1 and spec[1].get("forceInput")
    return not forced and (isinstance(spec[0], list) or spec[0] in WIDGET_TYPES)
