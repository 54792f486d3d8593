"""Edits to be taught: kinds that no shipped adapter knows, and the six that they all know."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

LARGEST_TO_ENLARGE = 19.0
"""Radius of a shape that stays within its quarter of the picture."""


def move(draw: random.Random) -> Any:
    """An edit of a kind that no shipped adapter has seen: a shape goes to a free quarter of the picture."""
    from icedit.mini.edits import SceneEdit
    from icedit.mini.scene import centre, random_scene

    scene = random_scene(draw)
    old, place = draw.choice(scene.shapes), draw.choice(scene.free_places())
    x, y = centre(place)
    after = scene.exchanging(old, replace(old, place=place, x=x, y=y))
    name = f"{old.colour} {old.kind}"
    return SceneEdit("move", scene, after, f"move the {name} to the {place}", f"the {name} is at the {place}")


def enlarge(draw: random.Random) -> Any:
    """A shape that has room for it becomes larger where it is."""
    from icedit.mini.edits import SceneEdit
    from icedit.mini.scene import random_scene

    scene = random_scene(draw)
    while not (small := [shape for shape in scene.shapes if shape.radius < LARGEST_TO_ENLARGE]):
        scene = random_scene(draw)
    old = draw.choice(small)
    after, name = scene.exchanging(old, replace(old, radius=1.4 * old.radius)), f"{old.colour} {old.kind}"
    return SceneEdit("enlarge", scene, after, f"enlarge the {name}", f"the {name} is larger")


def mirror(draw: random.Random) -> Any:
    """Left and right are exchanged. No checks: none in this world begin with the other colour."""
    from icedit.mini.edits import SceneEdit
    from icedit.mini.scene import PANEL, PLACES, random_scene

    scene = random_scene(draw)
    while scene.texture == "checked":
        scene = random_scene(draw)
    shapes = tuple(
        replace(shape, x=PANEL - shape.x, place=PLACES[PLACES.index(shape.place) ^ 1]) for shape in scene.shapes
    )
    return SceneEdit("mirror", scene, replace(scene, shapes=shapes), "mirror the picture", "the picture is mirrored")


NEW_TASKS = {"move": move, "enlarge": enlarge, "mirror": mirror}


def drawn(count: int, seed: int, make: Callable[[random.Random], Any]) -> list[Any]:
    draw = random.Random(seed)
    return [make(draw) for _ in range(count)]


def old_edit(draw: random.Random) -> Any:
    from icedit.mini.edits import random_edit

    return random_edit(draw)
