"""Scenes as pictures, drawn from the distance fields of their shapes."""

import torch
from torch import Tensor

from .scene import BACKGROUNDS, COLOURS, OUTLINE, PANEL, Scene, Shape


def render(scene: Scene) -> Tensor:
    """The picture `3 128 128` in 0..1, with antialiased edges."""
    picture = _background(scene)
    for shape in scene.shapes:
        distance = _distance(shape)
        inside = (0.5 - distance).clamp(0, 1)
        if not shape.filled:
            inside = inside * (0.5 + distance + OUTLINE).clamp(0, 1)
        picture = torch.lerp(picture, _paint(COLOURS[shape.colour]), inside)
    return picture


def _paint(colour: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colour)[:, None, None]


def _grid() -> tuple[Tensor, Tensor]:
    """x `1 128` and y `128 1` of the pixels' middles."""
    at = torch.arange(PANEL) + 0.5
    return at[None, :], at[:, None]


def _background(scene: Scene) -> Tensor:
    base = _paint(BACKGROUNDS[scene.background])
    other = base * 0.8 if scene.background != "black" else base + 0.18
    x, y = _grid()
    if scene.texture == "striped":
        pattern = (y // 16 % 2).expand(PANEL, PANEL)
    elif scene.texture == "checked":
        pattern = (x // 16 + y // 16) % 2
    else:
        pattern = torch.zeros(PANEL, PANEL)
    return torch.lerp(base.expand(3, PANEL, PANEL), other.expand(3, PANEL, PANEL), pattern)


def _distance(shape: Shape) -> Tensor:
    """Signed distance to the shape's edge `128 128`, pixels, negative inside."""
    x, y = _grid()
    dx, dy, r = x - shape.x, y - shape.y, shape.radius
    ax, ay = dx.abs(), dy.abs()
    if shape.kind == "circle":
        return torch.sqrt(dx**2 + dy**2) - r
    if shape.kind == "square":
        return torch.maximum(ax, ay) - 0.88 * r
    if shape.kind == "diamond":
        return (ax + ay - 1.2 * r) * 0.7071
    if shape.kind == "triangle":
        return torch.maximum(0.866 * ax - 0.5 * dy - 0.5 * r, dy - 0.6 * r)
    return torch.maximum(torch.maximum(ax, ay) - r, torch.minimum(ax, ay) - 0.36 * r)
