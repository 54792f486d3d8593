"""Edits in the picture world: an instruction, the scene before it and the scene that must come out."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from .scene import (
    ADDED_RADIUS,
    BACKGROUNDS,
    COLOURS,
    KINDS,
    Scene,
    Shape,
    centre,
    random_scene,
)

TASKS = ("recolour", "remove", "add", "background", "swap", "restyle")


@dataclass(frozen=True)
class SceneEdit:
    """An edit. `instruction` is what a user writes; `description` says how the result differs, like a caption."""

    task: str
    before: Scene
    after: Scene
    instruction: str
    description: str


def random_edit(draw: random.Random, task: str | None = None, scene: Scene | None = None) -> SceneEdit:
    """A random edit; task and scene are random too unless given."""
    task = task or draw.choice(TASKS)
    return _TASKS[task](draw, scene or random_scene(draw))


def _recolour(draw: random.Random, scene: Scene) -> SceneEdit:
    old = draw.choice(scene.shapes)
    colour = _new_colour(draw, scene)
    words = (f"make the {_name(old)} {colour}", f"change the colour of the {_name(old)} to {colour}")
    after = scene.exchanging(old, replace(old, colour=colour))
    return SceneEdit("recolour", scene, after, draw.choice(words), f"the {_name(old)} is {colour}")


def _swap(draw: random.Random, scene: Scene) -> SceneEdit:
    old = draw.choice(scene.shapes)
    kind = _new_kind(draw, scene)
    words = (f"turn the {_name(old)} into a {kind}", f"replace the {_name(old)} with a {kind}")
    after = scene.exchanging(old, replace(old, kind=kind))
    return SceneEdit("swap", scene, after, draw.choice(words), f"the {_name(old)} is a {kind}")


def _restyle(draw: random.Random, scene: Scene) -> SceneEdit:
    old = draw.choice(scene.shapes)
    if old.filled:
        words = (f"make the {_name(old)} an outline", f"show only the outline of the {_name(old)}")
    else:
        words = (f"make the {_name(old)} filled", f"fill the {_name(old)}")
    style = "hollow" if old.filled else "solid"
    after = scene.exchanging(old, replace(old, filled=not old.filled))
    return SceneEdit("restyle", scene, after, draw.choice(words), f"the {_name(old)} is {style}")


def _remove(draw: random.Random, scene: Scene) -> SceneEdit:
    old = draw.choice(scene.shapes)
    words = (f"remove the {_name(old)}", f"delete the {_name(old)}")
    return SceneEdit("remove", scene, scene.without(old), draw.choice(words), f"the {_name(old)} is gone")


def _add(draw: random.Random, scene: Scene) -> SceneEdit:
    place = draw.choice(scene.free_places())
    new = Shape(_new_kind(draw, scene), _new_colour(draw, scene), place, *centre(place), ADDED_RADIUS)
    words = (f"add {with_article(_name(new))} at the {place}", f"draw {with_article(_name(new))} in the {place} corner")
    after = replace(scene, shapes=(*scene.shapes, new))
    return SceneEdit("add", scene, after, draw.choice(words), f"there is {with_article(_name(new))} at the {place}")


def _background(draw: random.Random, scene: Scene) -> SceneEdit:
    colour = draw.choice([name for name in BACKGROUNDS if name != scene.background])
    words = (f"change the background to {colour}", f"make the background {colour}")
    return SceneEdit(
        "background", scene, replace(scene, background=colour), draw.choice(words), f"the background is {colour}"
    )


def _new_kind(draw: random.Random, scene: Scene) -> str:
    return draw.choice([name for name in KINDS if all(shape.kind != name for shape in scene.shapes)])


def _new_colour(draw: random.Random, scene: Scene) -> str:
    return draw.choice([name for name in COLOURS if all(shape.colour != name for shape in scene.shapes)])


def _name(shape: Shape) -> str:
    return f"{shape.colour} {shape.kind}"


def with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


_TASKS: dict[str, Callable[[random.Random, Scene], SceneEdit]] = {
    "recolour": _recolour,
    "remove": _remove,
    "add": _add,
    "background": _background,
    "swap": _swap,
    "restyle": _restyle,
}
