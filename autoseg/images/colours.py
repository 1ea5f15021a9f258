"""A colour for every structure, the same in every file and on every machine."""

from __future__ import annotations

import colorsys

Colour = tuple[int, int, int]

GOLDEN = 0.618033988749895  # neighbours in the list are far apart on the colour circle, however long the list is


def colour(number: int) -> Colour:
    """Return the colour of structure `number` (from 0 up) as red, green and blue, 0 to 255."""
    hue = (0.02 + number * GOLDEN) % 1.0
    saturation, value = ((0.75, 0.95), (0.55, 0.80), (0.90, 0.75))[number % 3]
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue
