"""Reads the help pages and says what their tables must hold, going by the nodes' schemas."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "web" / "docs"
LOCALES = ("en", "ko", "zh")
HEADINGS = {
    "en": ("Inputs", "Outputs", "When something goes wrong"),
    "ko": ("입력", "출력", "문제가 생기면"),
    "zh": ("输入", "输出", "出问题时"),
}
NEEDED = {"en": ("required", "optional"), "ko": ("필수", "선택"), "zh": ("必需", "可选")}
CHOSEN_ON_THE_HOST = {"image", "lora_name", "model_name", "sampler_name", "scheduler", "start_from"}
"""Combos whose choices depend on the machine or the host; their cell says in words where they come from."""


@dataclass(frozen=True)
class Page:
    """A help page: `sections` holds the text under each second-level heading."""

    title: str
    lead: str
    sections: dict[str, str]
    text: str

    @classmethod
    def read(cls, path: Path) -> "Page":
        text = path.read_text(encoding="utf-8")
        head, *parts = re.split(r"^## ", text, flags=re.M)
        title, _, lead = head.partition("\n")
        sections = {part.partition("\n")[0].strip(): part.partition("\n")[2] for part in parts}
        return cls(title.removeprefix("# ").strip(), lead.strip(), sections, text)

    def rows(self, heading: str) -> list[list[str]]:
        """The cells of the first table under a heading, without its head."""
        lines = [line for line in self.sections[heading].splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]

    @property
    def pictures(self) -> list[str]:
        return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", self.text)

    @property
    def links(self) -> list[str]:
        return re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", re.sub(r"!\[[^\]]*\]\([^)]*\)", "", self.text))


def page_path(node: str, locale: str) -> Path:
    """Where the page looks for a node's help, under the extension's address."""
    return DOCS / f"{node}.md" if locale == "en" else DOCS / node / f"{locale}.md"


def schemas() -> dict[str, Any]:
    """Node id -> schema, of every node of the pack."""
    import icedit

    async def nodes() -> list[Any]:
        return await (await icedit.comfy_entrypoint()).get_node_list()

    found = [node.define_schema() for node in asyncio.run(nodes())]
    return {schema.node_id: schema for schema in found}


def choices(port: Any) -> str | None:
    """The cell of the range column; None where it is words about the host's choices."""
    kind = port.io_type
    if kind in ("INT", "FLOAT"):
        return f"{_number(port.min)} – {_number(port.max)}"
    if kind == "BOOLEAN":
        return "`true`, `false`"
    if kind == "COMBO":
        return None if port.id in CHOSEN_ON_THE_HOST else ", ".join(f"`{option}`" for option in port.options)
    return f"`{kind}`"


def default(port: Any, locale: str) -> str:
    """The cell of the default column: for what is wired, whether it must be."""
    if not hasattr(port, "default"):
        return NEEDED[locale][bool(port.optional)]
    if port.default in (None, ""):
        return "–"
    return f"`{str(port.default).lower() if isinstance(port.default, bool) else _number(port.default)}`"


def output_name(port: Any) -> str:
    """What the page writes beside an output."""
    return port.display_name or port.id


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
