"""An image with its patches shaded by a unit's activation: the picture, and a drawing over it."""

import base64
import io

import torch
from jaxtyping import Float
from torch import Tensor

from icp.drivers import DrivingInput
from icp.numerals import number
from icp.page import Html, element
from icp.sections.text import BLUE, RED

SIDE, BETWEEN, DISC, STRONGEST = 120, 8, 26, 0.85


def shaded(one: DrivingInput, most: float) -> Html:
    """The picture, framed at the patches of the cue; and in grey under the colours of its patches and its class token.

    A colour's strength is the activation's share of `most`. The picture's own colours are stretched from its darkest to
    its brightest pixel, since pixels are normalised as the model takes them.
    """
    scale = SIDE / max(one.image.shape[1:])
    height, width = (side * scale for side in one.image.shape[1:])
    source = _source(one.image.pixels)
    shown = {"href": source, "preserveAspectRatio": "none", "width": f"{width:g}", "height": f"{height:g}"}
    right = width + BETWEEN
    parts = [element("image", **shown), element("image", x=f"{right:g}", class_="grey", **shown)]
    columns = one.image.shape[2] // one.patch[1]
    for position, (name, activation) in enumerate(zip(one.tokens[1:], one.activations[1:])):
        row, column = divmod(position, columns)
        down, across = (side * scale for side in one.patch)
        place = {"y": f"{row * down:g}", "width": f"{across:g}", "height": f"{down:g}"}
        told, colour = element("title", f"{name}: {number(activation)}"), _colour(activation, most)
        parts.append(element("rect", told, x=f"{right + column * across:g}", **place, **colour))
        if position + 1 in one.cue:
            parts.append(element("rect", x=f"{column * across:g}", class_="cue", **place))
    told = element("title", f"{one.tokens[0]}: {number(one.activations[0])}")
    centre, whole = right + width + DISC / 2 + 2, right + width + DISC + 4
    disc = {"cx": f"{centre:g}", "cy": "12", "r": "10", "class_": "token"}
    parts.append(element("circle", told, **disc, **_colour(one.activations[0], most)))
    size = {"viewBox": f"0 0 {whole:g} {height:g}", "width": f"{whole:g}"}
    return element("div", element("svg", *parts, role="img", aria_label=one.text, **size), class_="picture")


def _colour(activation: float, most: float) -> dict[str, str]:
    share = activation / most if most else 0.0
    return {
        "fill": "rgb({},{},{})".format(*(RED if share > 0 else BLUE)),
        "fill_opacity": f"{STRONGEST * min(1.0, abs(share)):.3f}",
    }


def _source(pixels: Float[Tensor, "channel height width"]) -> str:
    """As a browser reads it, small pictures to the pixel; of any number of channels but three, their mean in grey."""
    from PIL import Image as Picture

    low, high = pixels.min(), pixels.max()
    levels = ((pixels - low) / (high - low).clamp(min=1e-9) * 255).round().to(torch.uint8)
    if len(levels) != 3:
        levels = levels.float().mean(0, keepdim=True).to(torch.uint8).expand(3, -1, -1)
    file, kind = io.BytesIO(), "png" if max(pixels.shape[1:]) <= SIDE else "jpeg"
    Picture.fromarray(levels.permute(1, 2, 0).numpy()).save(file, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
