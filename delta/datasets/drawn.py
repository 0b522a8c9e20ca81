"""The embedded data set `drawn_30`: a small, procedurally generated object recognition data set.

It has ten categories of illustrated objects. Each object is assembled from named parts and placed in a scene that is
independent of the category, among clutter and partly occluded. Every shape is painted with the same transform onto the
image *and* onto the label maps, and later shapes cover earlier ones in both: annotations are correct by construction.

`draw` writes three well-known layouts, so that the code for the real data sets reads this one too:

* Caltech-256 (Griffin et al. 2007): `256_ObjectCategories/001.airplane/001_0001.jpg`.
* The parts of CUB-200-2011 (Wah et al. 2011): `images.txt` has `<image id> <path below 256_ObjectCategories>`,
  `parts/parts.txt` `<part id> <name>`, and `parts/part_locs.txt` `<image id> <part id> <x> <y> <visible>` in pixels of
  the JPEG for every image and every part of the vocabulary, `0.0 0.0 0` if the object lacks the part or it is hidden.
* Broden (Bau et al. 2017, "Network Dissection"), in `broden/`: `index.csv`, `label.csv`, `category.csv`, `images/`.
  A label map is a PNG of the image's size; a pixel's label number is R + 256 G, and 0 is no label. Label numbers are
  fixed, so labels that occur on no image are listed too. Names of colours end in -c, names of scenes in -s.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from delta.datasets.layouts import read_categories, read_part_lists
from delta.io.cores import available_cores

SUPERSAMPLING = 2
JPEG_QUALITY = 90
ANNOTATED = 30  # of each class's images, the first so many are annotated for Broden: dissection takes a while
OBJECT_SIZE = 0.4, 0.5  # range of half an object's extent, as a fraction of the image's shorter side
OCCLUDED = 0.45  # fraction of the images with something in front of the object
MIN_VISIBLE_SHARE, MIN_VISIBLE_PIXELS = 0.5, 6  # a part of which less remains unoccluded is not visible
LAYERS = ("object", "part", "color", "texture")

# The eleven basic colour terms of Berlin and Kay, which Broden uses as well.
COLOURS = {
    "black": (38, 36, 40), "white": (240, 240, 234), "grey": (136, 138, 142), "red": (196, 44, 42),
    "orange": (232, 132, 42), "yellow": (238, 208, 76), "green": (76, 140, 66), "blue": (62, 110, 184),
    "purple": (118, 70, 148), "pink": (232, 150, 178), "brown": (126, 84, 52),
}  # fmt: skip

# Texture -> whether the second colour shows instead of the first at (u, v), with period one in both.
TEXTURES = {
    "striped": lambda u, v: u % 1 < 0.5,
    "banded": lambda u, v: v % 1 < 0.4,
    "dotted": lambda u, v: (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.08,
    "chequered": lambda u, v: (u % 1 < 0.5) ^ (v % 1 < 0.5),
    "grid": lambda u, v: (u % 1 < 0.18) | (v % 1 < 0.18),
    "zigzagged": lambda u, v: (v + np.abs(u % 1 - 0.5)) % 1 < 0.45,
}

# Role of a fill -> probability of a texture, and colours to choose from. Within an object, a role has one fill.
EVERY_COLOUR = " ".join(COLOURS)
ROLES = {
    "main": (0.25, EVERY_COLOUR), "trim": (0.2, EVERY_COLOUR), "wall": (0.35, EVERY_COLOUR), "snow": (0, "white grey"),
    "floor": (0.4, "brown grey white black red"), "dark": (0, "black grey brown blue"), "road": (0.1, "grey black"),
    "glass": (0, "white blue grey black yellow"), "light": (0, "white yellow orange"), "cloud": (0, "white grey pink"),
    "leaf": (0.1, "green yellow orange brown"), "bark": (0.1, "brown grey black"), "stone": (0.1, "grey brown white"),
    "sky": (0, "blue blue grey white"), "dusk": (0, "orange pink purple"), "night": (0, "black blue purple"),
    "grass": (0.15, "green green yellow"), "sand": (0.15, "yellow orange brown"), "water": (0.2, "blue green grey"),
}  # fmt: skip


class Paint(NamedTuple):
    """A fill: the names and RGB values of its two colours (the second is used by the texture only), and the texture."""

    colours: tuple[str, str]
    shades: list[tuple[int, ...]]
    texture: str
    frequency: float


def poly(*xy: float) -> np.ndarray:
    """A polygon through x0, y0, x1, y1, ..., x to the right and y down: [points, 2]. Objects span about [-1, 1]²."""
    return np.array(xy, float).reshape(-1, 2)


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """An axis-aligned rectangle."""
    return poly(x0, y0, x1, y0, x1, y1, x0, y1)


def bar(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    """A line segment of a given width."""
    across = np.array([y0 - y1, x1 - x0]) / math.hypot(x1 - x0, y1 - y0) * width / 2
    return np.array([(x0, y0) + across, (x1, y1) + across, (x1, y1) - across, (x0, y0) - across])


def oval(x: float, y: float, rx: float, ry: float | None = None) -> np.ndarray:
    """An ellipse, or a circle if only one radius is given."""
    angle = np.linspace(0, math.tau, 28, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + (ry or rx) * np.sin(angle)], axis=1)


def ring(x: float, y: float, radius: float, width: float) -> np.ndarray:
    """A circle with a round hole, as one polygon along the rim and back along the hole."""
    rim, hole = (np.vstack([o, o[:1]]) for o in (oval(x, y, radius), oval(x, y, radius - width)))
    return np.vstack([rim, hole[::-1]])


def smooth(*xy: float) -> np.ndarray:
    """A polygon with rounded corners (Chaikin's corner cutting)."""
    points = poly(*xy)
    for _ in range(3):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1).reshape(-1, 2)
    return points


SHAPES = {maker.__name__: maker for maker in (poly, box, bar, oval, ring, smooth)}

# Name, role and shapes. Parts may share a name (a tyre and its hub are both `wheel`); parts of clutter have none.
Part = tuple[str, str, list[np.ndarray]]


def parts(text: str) -> list[Part]:
    """Parse an object, back to front: `name role: shape numbers, shape numbers; ...`, in hundredths of a unit."""
    found = []
    for head, shapes in (entry.split(":") for entry in text.split(";")):
        *name, role = head.split()
        drawn = [SHAPES[kind](*(int(n) / 100 for n in numbers)) for kind, *numbers in map(str.split, shapes.split(","))]
        found.append(("".join(name), role, drawn))
    return found


BUILDING = """
    front main: box -78 2 78 84; roof trim: poly -100 8 -66 -42 66 -42 100 8; window light: box -60 20 -12 60;
    window glass: box -56 24 -38 38, box -34 24 -16 38, box -56 42 -38 56, box -34 42 -16 56;
    door dark: box 15 26 52 84; handle light: oval 44 57 5; step stone: box 5 82 62 91, box -2 90 69 99"""
BOAT = """
    mast bark: bar -2 -100 -2 30 6; flag trim: poly 0 -100 34 -92 26 -84 34 -74 0 -76;
    rudder dark: poly -86 50 -98 55 -100 92 -78 92 -70 60; cabin light: poly -62 34 -58 2 40 2 50 34;
    window glass: oval -40 18 8, oval -10 18 8, oval 20 18 8; hull main: poly -95 26 98 22 86 50 66 78 -76 78 -88 55;
    anchor dark: bar 62 32 62 60 5, smooth 46 50 50 68 74 68 78 50 62 62"""
OBJECTS = {
    "airplane": parts("""
        wing trim: poly 10 0 -20 -50 -38 -50 -22 0; tail trim: poly -60 -8 -98 -58 -78 -58 -38 -14;
        wheel dark: oval 52 40 9, oval -8 42 9, bar 52 10 52 40 4;
        fuselage main: smooth -110 -20 -50 -22 60 -26 100 -10 105 10 60 25 -40 22; door light: box -5 -14 8 16;
        window glass: oval -35 -6 5 6, oval -18 -6 5 6, oval 20 -6 5 6, oval 37 -6 5 6, poly 60 -20 80 -12 80 -3 60 -3;
        wing trim: poly 20 8 -34 62 -58 62 -26 8; tail trim: poly -62 -2 -98 16 -112 14 -88 -6;
        propeller dark: oval 102 -22 4 24, oval 102 20 4 24, oval 103 0 7"""),
    "bicycle": parts("""
        wheel dark: ring -60 35 42 9, ring 60 35 42 9;
        wheel stone: bar -98 35 -22 35 3, bar -60 -3 -60 73 3, bar -86 9 -34 61 3, bar -86 61 -34 9 3;
        wheel stone: bar 98 35 22 35 3, bar 60 -3 60 73 3, bar 86 9 34 61 3, bar 86 61 34 9 3;
        frame main: bar -60 35 -28 -30 8, bar -28 -30 42 -30 8, bar 42 -34 0 38 8, bar -34 -42 0 38 8;
        frame main: bar -60 35 0 38 7, bar 36 -55 60 35 8; handle dark: bar 36 -58 62 -74 8, bar 62 -74 50 -84 9;
        lamp light: oval 62 -42 11 9; saddle trim: smooth -62 -50 -60 -60 -30 -56 -8 -52 -10 -46 -40 -40;
        pedal dark: oval 0 38 12, bar 0 38 14 62 5, box 4 60 26 67"""),
    "bird": parts("""
        leg dark: bar -12 30 -18 86 6, bar 10 30 12 86 6, bar -26 88 -2 88 6, bar 4 88 28 88 6;
        tail trim: poly -50 -6 -108 20 -102 34 -90 30 -88 44 -40 26;
        body main: smooth -80 10 -40 -35 30 -45 70 -30 60 30 10 58 -40 50; head main: oval 52 -48 31 30;
        beak light: poly 76 -62 110 -44 76 -36; eye light: oval 58 -55 9; eye dark: oval 60 -55 5;
        wing trim: smooth 40 -25 30 20 -20 40 -85 30 -50 5 -20 -20"""),
    "car": parts("""
        body main: smooth -105 30 -102 -8 -70 -12 -60 -60 20 -64 50 -14 102 -10 106 40 80 42 -90 42;
        window glass: poly -52 -10 -46 -42 -16 -46 -16 -10, poly -6 -10 -6 -46 16 -44 36 -10;
        door trim: poly -12 -6 38 -6 36 32 -12 32; handle light: bar -6 5 8 5 6;
        bumper stone: box 78 22 108 36, box -108 22 -82 36; lamp light: oval 90 8 10 8;
        wheel dark: oval -58 40 25, oval 58 40 25; wheel stone: oval -58 40 12, oval 58 40 12"""),
    "church": parts("steeple main: box -26 -74 24 -20; steeple trim: poly -36 -68 -1 -128 34 -68;" + BUILDING),
    "fish": parts("""
        tail trim: poly -60 0 -108 -45 -94 2 -108 48; fin trim: smooth -40 -20 -30 -75 10 -66 45 -20;
        fin trim: smooth -30 20 -36 62 10 40; body main: smooth -85 0 -50 -25 0 -55 75 -40 110 2 75 40 0 50 -50 22;
        gill dark: smooth 34 -34 56 0 34 32 42 0; fin trim: smooth 20 2 -25 2 -20 30;
        eye light: oval 66 -12 10; eye dark: oval 68 -12 6; mouth dark: smooth 76 12 86 20 104 10 90 8"""),
    "house": parts("chimney main: box 26 -76 52 -24; chimney stone: box 20 -84 58 -72;" + BUILDING),
    "sailboat": parts("sail trim: poly -8 -92 -8 0 -80 0, poly 5 -68 5 2 72 2;" + BOAT),
    "steamboat": parts("funnel trim: poly -50 -64 -20 -64 -16 5 -52 5; funnel dark: box -53 -74 -18 -60;" + BOAT),
    "teapot": parts("""
        handle trim: ring -66 6 40 12; spout main: smooth 40 50 75 30 80 -30 110 -40 105 -24 95 10 80 50 40 70;
        foot trim: poly -34 62 34 62 44 82 -44 82; lid trim: smooth -50 -36 -35 -66 35 -66 50 -36;
        body main: smooth -70 10 -55 -45 0 -50 55 -45 70 10 60 65 0 75 -60 65; knob dark: oval 0 -70 12"""),
}  # fmt: skip
LOOKALIKES = ("church", "house"), ("sailboat", "steamboat")  # pairs that differ in one part only

THINGS = {name: parts(text) for name, text in {
    "tree": "bark: bar 0 0 4 100 22; leaf: oval -30 -20 45, oval 32 -15 42, oval 0 -60 45",
    "fir": "bark: bar 0 40 0 100 18; leaf: poly -65 70 0 -10 65 70, poly -52 25 0 -55 52 25, poly -36 -20 0 -99 36 -20",
    "bush": "leaf: oval -55 40 45 50, oval 50 45 50 45, oval 0 15 55 65",
    "cloud": "cloud: oval -55 10 50 28, oval 0 -10 50 38, oval 60 12 45 25",
    "sun": "light: oval 0 0 60",
    "moon": "light: smooth 20 -80 -50 -50 -70 20 -10 80 60 50 0 30 -10 -30",
    "rock": "stone: smooth -100 70 -70 -10 -10 -60 50 -30 100 70",
    "cactus": "leaf: bar 0 -99 0 99 45, bar -60 9 0 9 20, bar -55 -40 -55 9 20, bar 0 -9 50 -9 20, bar 50 -60 50 -9 20",
    "flower": "grass: bar 0 0 5 99 8; main: oval 0 -30 58 26, oval 0 -30 26 58; sand: oval 0 -30 16",
    "ball": "main: oval 0 0 70; trim: oval 10 -10 35",
    "crate": "bark: box -70 -70 70 70; sand: bar -60 -60 60 60 18, bar -60 60 60 -60 18",
    "sign": "stone: bar 0 -20 0 100 10; main: poly 0 -100 50 -50 0 0 -50 -50; trim: oval 0 -50 22",
    "umbrella": "bark: bar 0 -60 0 100 7; main: smooth -100 5 -80 -70 0 -100 80 -70 100 5",
    "balloon": "dark: bar 0 40 5 100 4; main: smooth 0 55 -60 0 -50 -90 50 -90 60 0",
    "picture": "bark: box -80 -60 80 60; sky: box -66 -46 66 46; grass: poly -66 46 -20 -20 10 20 40 -10 66 46",
    "vase": "main: smooth -20 -90 -10 -40 -70 10 -40 90 40 90 70 10 10 -40 20 -90",
    "pole": "stone: bar 0 -400 0 400 22",
    "fence": "bark: bar -160 0 160 0 14, bar -160 50 160 50 14, box -150 -50 -124 100, box -96 -50 -70 100,"
             "box -42 -50 -16 100, box 12 -50 38 100, box 66 -50 92 100, box 120 -50 146 100",
    "reeds": "grass: poly -86 90 -60 -50 -74 90, poly -56 90 -64 -80 -42 90, poly -26 90 -8 -70 -12 90,"
             "poly 4 90 -20 -60 18 90, poly 34 90 40 -90 48 90, poly 64 90 82 -55 78 90",
}.items()}  # fmt: skip
ANYWHERE = "ball", "crate", "flower", "sign", "umbrella", "balloon", "vase", "rock"
IN_FRONT = "bush", "reeds", "fence", "pole", "rock", "tree", "umbrella", "crate", "sign", "cactus"

# Scene -> its bands (name, roles to choose from, upper edge and its roughness in hundredths of the height; back to
# front, each down to the bottom), and the things that may occur above and below the upper edge of the last band.
SCENES = {
    "sea": ("sky sky|dusk -30 0, hill leaf|stone 42 5, water water 52 0", "cloud sun", "rock"),
    "meadow": ("sky sky -30 0, hill leaf 36 6, grass grass 55 2", "cloud sun balloon", "flower bush tree"),
    "street": ("sky sky|dusk -30 0, wall wall 15 0, pavement stone 66 0, road road 76 0", "sign", "ball crate sign"),
    "room": ("wall wall -30 0, floor floor 68 0", "picture", "vase ball crate"),
    "desert": ("sky sky|dusk -30 0, hill sand 45 5, sand sand 58 3", "sun cloud", "cactus rock"),
    "night": ("sky night -30 0, mountain dark 45 12, grass grass|dark 70 2", "moon cloud", "fir bush"),
    "winter": ("sky sky -30 0, mountain stone 35 14, snow snow 60 3", "cloud", "fir rock"),
    "forest": ("leaves leaf -30 0, grass grass|leaf 62 2", "tree fir", "bush tree flower"),
}
BANDS = {scene: [band.split() for band in bands.split(",")] for scene, (bands, _, _) in SCENES.items()}

CATEGORIES = tuple(OBJECTS)
PARTS_OF = {category: tuple(dict.fromkeys(name for name, _, _ in pieces)) for category, pieces in OBJECTS.items()}
PARTS = tuple(dict.fromkeys(name for names in PARTS_OF.values() for name in names))
LABELS = {
    "color": [f"{name}-c" for name in COLOURS],
    "object": list(dict.fromkeys([*OBJECTS, *THINGS, *(band[0] for bands in BANDS.values() for band in bands)])),
    "part": list(PARTS),
    "scene": [f"{name}-s" for name in SCENES],
    "texture": list(TEXTURES),
}
NUMBER = {name: i for i, name in enumerate((name for names in LABELS.values() for name in names), start=1)}


def project(view: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a homography [3, 3] to points [n, 2]."""
    lifted = points[:, :1] * view[:, 0] + points[:, 1:] * view[:, 1] + view[:, 2]
    return lifted[:, :2] / lifted[:, 2:]


def pose(rng: random.Random, x: float, y: float, size: float, tilt: float) -> np.ndarray:
    """A random homography from unit coordinates to the canvas: mirror, stretch, shear, perspective, rotation, shift."""
    stretch, angle = rng.uniform(0.85, 1.2), math.radians(rng.gauss(0, tilt))
    scale = np.diag([rng.choice((-1, 1)) * size * stretch, size / stretch, 1])
    shear, far = rng.gauss(0, 0.08), (rng.gauss(0, 0.09), rng.gauss(0, 0.05))
    slant = np.array([[1, shear, 0], [0, 1, 0], [*far, 1]])
    turn = np.array([[math.cos(angle), -math.sin(angle), x], [math.sin(angle), math.cos(angle), y], [0, 0, 1]])
    return turn @ scale @ slant


class Canvas:
    """An image and its label maps, `SUPERSAMPLING` times as large as the saved ones."""

    def __init__(self, rng: random.Random):
        self.rng, self.noise = rng, np.random.default_rng(rng.getrandbits(64))
        self.size = self.width, self.height = [rng.randint(200, 300) * SUPERSAMPLING for _ in range(2)]
        self.picture, self.light = Image.new("RGB", self.size), np.zeros((self.height, self.width), np.float32)
        self.labels = np.zeros((len(LAYERS), self.height, self.width), np.uint16)
        self.grain = 1 + 0.05 * self.lumps(60) + 0.04 * self.lumps(12)
        self.contour = rng.choice((0, 0, 2, 3))
        self.slope = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0)

    def lumps(self, pixels: int) -> np.ndarray:
        """Smooth zero-mean noise, for uneven surfaces."""
        coarse = self.noise.standard_normal((self.height // pixels + 2, self.width // pixels + 2), np.float32)
        return np.asarray(Image.fromarray(coarse).resize(self.size, Image.Resampling.BICUBIC))

    def mix(self, role: str, taken: Iterable[str] = ()) -> Paint:
        """A random fill for `role`, avoiding the `taken` colours if the role has others."""
        textured, names = ROLES[role]
        first = self.rng.choice([name for name in names.split() if name not in taken] or names.split())
        second = self.rng.choice([name for name in COLOURS if name != first])
        shades = [tuple(round(c + self.rng.gauss(0, 14)) for c in COLOURS[name]) for name in (first, second)]
        texture = self.rng.choice(list(TEXTURES)) if self.rng.random() < textured else ""
        return Paint((first, second), shades, texture, self.rng.uniform(2, 6))

    def fill(self, shape: np.ndarray, view: np.ndarray, paint: Paint, name: str, part_name: str = "") -> None:
        """Paint a shape, transformed by the homography `view`, onto the image and every label map."""
        points = project(view, shape)
        left, top = np.maximum(np.floor(points.min(0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(points.max(0)) + 1, self.size).astype(int)
        if left >= right or top >= bottom:
            return
        stencil, outline = Image.new("L", (right - left, bottom - top)), (points - (left, top)).ravel().tolist()
        ImageDraw.Draw(stencil).polygon(outline, fill=1, outline=2 if self.contour else 1, width=max(self.contour, 1))
        inside, window = np.asarray(stencil), np.s_[..., top:bottom, left:right]
        numbers = [NUMBER.get(label, 0) for label in (name, part_name, f"{paint.colours[0]}-c", paint.texture)]
        np.copyto(self.labels[window], np.array(numbers, np.uint16)[:, None, None], where=inside > 0)
        self.picture.paste(paint.shades[0], (left, top), Image.fromarray(inside > 0))
        if paint.texture:
            pixels = np.indices(inside.shape)[::-1].reshape(2, -1).T + (left, top)
            u, v = project(np.linalg.inv(view), pixels).T.reshape(2, *inside.shape) * paint.frequency
            second = TEXTURES[paint.texture](u, v) & (inside > 0)
            self.labels[window][LAYERS.index("color"), second] = NUMBER[f"{paint.colours[1]}-c"]
            self.picture.paste(paint.shades[1], (left, top), Image.fromarray(second))
        down, across = (np.linspace(-1, 1, n, dtype=np.float32) for n in inside.shape)
        light = self.grain[window] + self.slope[0] * across + self.slope[1] * down[:, None]
        light[inside == 2] *= 0.45
        np.copyto(self.light[window], light, where=inside > 0)

    def thing(self, pieces: list[Part], view: np.ndarray, name: str = "") -> None:
        """Paint an object part by part, with random variations of its shape."""
        rng = self.rng
        paints: dict[str, Paint] = {}
        bend, phase = (np.array([rng.gauss(0, 1), rng.gauss(0, 1)]) for _ in range(2))
        for part_name, role, shapes in pieces:
            if role not in paints:
                paints[role] = self.mix(role, [paint.colours[0] for paint in paints.values()])
            middle, grow = np.concatenate(shapes).mean(0), rng.uniform(0.88, 1.14)
            shift = rng.gauss(0, 0.015), rng.gauss(0, 0.015)
            for shape in shapes:
                built = (shape - middle) * grow + middle + shift
                bent = built + 0.05 * bend * np.sin(2.5 * built[:, ::-1] + 3 * phase)
                self.fill(bent, view, paints[role], name, part_name)

    def background(self, scene: str) -> None:
        """Paint the bands of a scene, and things that belong there."""
        rng, (_, above, below), shift, horizon = self.rng, SCENES[scene], self.rng.gauss(0, 0.06), 0.0
        for name, roles, top, rough in BANDS[scene]:
            horizon = int(top) / 100 + shift
            edge = [(x, horizon + rng.gauss(0, int(rough) / 100)) for x in np.linspace(-0.1, 1.1, 9)]
            shape = np.array([*edge, (1.1, 1.3), (-0.1, 1.3)])
            self.fill(shape, np.diag([*self.size, 1.0]), self.mix(rng.choice(roles.split("|"))), name)
        for names, high, low in ((above, 0, horizon), (below, horizon, 1)):
            for _ in range(rng.randint(0, 3)):
                name, x, y = rng.choice(names.split()), rng.uniform(0, self.width), rng.uniform(high, low) * self.height
                self.thing(THINGS[name], pose(rng, x, y, rng.uniform(0.07, 0.2) * min(self.size), 6), name)

    def render(self) -> Image.Image:
        """The image at its final size, with random shadow, gradient, exposure, contrast, colour cast, blur, noise."""
        rng = self.rng
        picture = Image.fromarray(np.clip(np.asarray(self.picture) * self.light[..., None], 0, 255).astype(np.uint8))
        picture = picture.reduce(SUPERSAMPLING)
        if rng.random() < 0.4:
            picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.0)))
        shadow = Image.new("L", picture.size, 255)
        if rng.random() < 0.4:
            corners = [tuple(rng.uniform(-0.2, 1.2) * extent for extent in picture.size) for _ in range(4)]
            ImageDraw.Draw(shadow).polygon(corners, fill=rng.randint(110, 190))
            shadow = shadow.filter(ImageFilter.GaussianBlur(rng.uniform(2, 12)))
        across, down = (rng.uniform(-0.25, 0.25) * np.linspace(-1, 1, n) for n in picture.size)
        exposure = np.asarray(shadow) / 255 * (1 + across + down[:, None]) * rng.uniform(0.8, 1.15)
        cast = np.array([rng.gauss(1, 0.04) for _ in range(3)])
        rgb = (128 + (np.asarray(picture) - 128.0) * rng.uniform(0.8, 1.1)) * exposure[..., None] * cast
        rgb += self.noise.normal(0, rng.uniform(1, 8), rgb.shape)
        return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def loose_part(rng: random.Random) -> list[Part]:
    """A random part of a random category, at the origin and of unit size; never one that tells lookalikes apart."""
    distinctive = {name for one, other in LOOKALIKES for name in {*PARTS_OF[one]} ^ {*PARTS_OF[other]}}
    category = rng.choice(CATEGORIES)
    name = rng.choice([name for name in PARTS_OF[category] if name not in distinctive])
    pieces = [piece for piece in OBJECTS[category] if piece[0] == name]
    points = np.concatenate([shape for _, _, shapes in pieces for shape in shapes])
    middle, reach = points.mean(0), np.abs(points - points.mean(0)).max()
    return [(name, role, [(shape - middle) / reach for shape in shapes]) for _, role, shapes in pieces]


def innermost(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of a pixel deep inside a mask: one that is left after eroding the mask as often as possible."""
    core = np.pad(mask, 1)
    while core.any():
        left = core
        core = left.copy()
        core[1:-1, 1:-1] &= left[:-2, 1:-1] & left[2:, 1:-1] & left[1:-1, :-2] & left[1:-1, 2:]
    ys, xs = np.nonzero(left)
    nearest = np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2)
    return int(xs[nearest]) - 1, int(ys[nearest]) - 1


def compose(
    category: str, seed: int, number: int
) -> tuple[Image.Image, dict[str, np.ndarray], dict[str, tuple[int, int]]]:
    """Draw one image, which depends on category, seed and number only.

    Returns:
        The image; by layer, a map of label numbers [h, w] (of a single pixel for the scene); and by visible part, the
        (x, y) of a pixel with that part's label.
    """
    rng = random.Random(f"{seed}/{category}/{number}")
    canvas, scene = Canvas(rng), rng.choice(list(SCENES))
    canvas.background(scene)
    for _ in range(rng.randint(0, 3)):
        x, y, size = *(rng.uniform(0, extent) for extent in canvas.size), rng.uniform(0.06, 0.18) * min(canvas.size)
        name = rng.choice(ANYWHERE) if rng.random() < 0.5 else ""
        canvas.thing(THINGS[name] if name else loose_part(rng), pose(rng, x, y, size, 20), name)
    size = rng.uniform(*OBJECT_SIZE) * min(canvas.size)
    x, y = (rng.uniform(min(1.05 * size, extent / 2), max(extent - 1.05 * size, extent / 2)) for extent in canvas.size)
    canvas.thing(OBJECTS[category], pose(rng, x, y, size, 8), category)

    maps = dict(zip(LAYERS, canvas.labels[:, ::SUPERSAMPLING, ::SUPERSAMPLING], strict=True))
    whole = np.where(maps["object"] == NUMBER[category], maps["part"], 0)
    if rng.random() < OCCLUDED:
        name, side, below = rng.choice(IN_FRONT), rng.uniform(-1, 1) * size, rng.uniform(0.2, 1) * size
        canvas.thing(THINGS[name], pose(rng, x + side, y + below, rng.uniform(0.25, 0.5) * size, 8), name)
    shown = np.where(maps["object"] == NUMBER[category], maps["part"], 0)
    masks = {name: shown == NUMBER[name] for name in PARTS_OF[category]}
    needed = {name: MIN_VISIBLE_SHARE * np.sum(whole == NUMBER[name]) for name in masks}
    visible = {n: innermost(m) for n, m in masks.items() if m.sum() >= max(needed[n], MIN_VISIBLE_PIXELS)}
    return canvas.render(), maps | {"scene": np.array([[NUMBER[f"{scene}-s"]]])}, visible


class Drawn(NamedTuple):
    """What is known of a drawn image: its path, the location of each visible part, and for an annotated image each
    layer's share of pixels by label number, and its line of Broden's index."""

    path: str
    visible: dict[str, tuple[int, int]]
    shares: dict[str, np.ndarray]
    lines: list[str]


def _in_order(root: Path, seed: int, jobs: list[tuple[int, str, int]]) -> Iterator[Drawn]:
    """Draw the images in parallel, one process per core and a hundred of them."""
    draw_one, workers = partial(_draw_image, root, seed), min(available_cores(), len(jobs) // 100)
    if workers < 2:
        yield from map(draw_one, jobs)
        return
    # Spawned, as a forked process would inherit threads and their locks.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        try:
            yield from pool.map(draw_one, jobs, chunksize=10)
        finally:
            pool.shutdown(cancel_futures=True)


def _draw_image(root: Path, seed: int, job: tuple[int, str, int]) -> Drawn:
    """Draw and write one image and, for the first of each class, its annotations in Broden's format."""
    (c, category, n), broden = job, root / "broden" / "images"
    picture, maps, visible = compose(category, seed, n)
    stem, path = f"drawn/{c:03d}_{n:04d}", f"{c:03d}.{category}/{c:03d}_{n:04d}.jpg"
    file = root / "256_ObjectCategories" / path
    file.parent.mkdir(exist_ok=True)
    picture.save(file, quality=JPEG_QUALITY)
    if n > ANNOTATED:
        return Drawn(path, visible, {}, [])
    (broden / f"{stem}.jpg").write_bytes(file.read_bytes())
    for layer in LAYERS:
        pixels = np.stack([maps[layer] % 256, maps[layer] // 256, 0 * maps[layer]], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(broden / f"{stem}_{layer}.png")
    w, h = picture.size
    color, thing, part, texture = (f"{stem}_{layer}.png" for layer in ("color", "object", "part", "texture"))
    split, scene = "train" if n % 2 else "val", maps["scene"].item()
    shares = {
        layer: np.bincount(numbers.ravel(), minlength=len(NUMBER) + 1) / numbers.size for layer, numbers in maps.items()
    }
    line = f"{stem}.jpg,{split},{h},{w},{h},{w},{color},{thing},{part},,{scene},{texture}"
    return Drawn(path, visible, shares, [line])


def read(root: Path) -> pd.DataFrame:
    """Every image, see `delta.datasets.layouts.read_categories`."""
    return read_categories(root, len(CATEGORIES))


def read_parts(root: Path) -> pd.DataFrame:
    """The locations of every object's parts, see `delta.datasets.layouts.read_part_lists`."""
    return read_part_lists(root, "", "256_ObjectCategories")


def draw(root: Path, images_per_class: int, seed: int) -> None:
    """Draw the data set into `root`, which must be empty or not exist, in the layouts of the module's docstring.

    The same arguments produce the same bytes. An image does not depend on the number of images per class.

    Raises:
        FileExistsError: `root` is not empty.
    """
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty")
    caltech, broden = root / "256_ObjectCategories", root / "broden"
    for folder in (caltech, root / "parts", broden / "images" / "drawn"):
        folder.mkdir(parents=True)
    jobs = [(c, category, n) for c, category in enumerate(CATEGORIES, 1) for n in range(1, images_per_class + 1)]
    paths, locations, index = [], [], ["image,split,ih,iw,sh,sw,color,object,part,material,scene,texture"]
    frequency, coverage = np.zeros(len(NUMBER) + 1, int), np.zeros(len(NUMBER) + 1)
    annotated: Counter[str] = Counter()
    for image_id, drawn in enumerate(tqdm(_in_order(root, seed, jobs), total=len(jobs), desc="drawing"), start=1):
        paths.append(f"{image_id} {drawn.path}")
        for part_id, name in enumerate(PARTS, start=1):
            x, y = drawn.visible.get(name, (0, 0))
            locations.append(f"{image_id} {part_id} {x:.1f} {y:.1f} {int(name in drawn.visible)}")
        for layer, share in drawn.shares.items():
            frequency, coverage = frequency + (share > 0), coverage + share
            annotated[layer] += bool(share[1:].any())
        index += drawn.lines

    labels, categories = ["number,name,category,frequency,coverage,syns"], ["name,first,last,count,frequency"]
    for layer, names in LABELS.items():
        categories.append(f"{layer},{NUMBER[names[0]]},{NUMBER[names[-1]]},{len(names)},{annotated[layer]}")
        for i, name in enumerate(names, start=NUMBER[names[0]]):
            labels.append(f"{i},{name},{layer}({frequency[i]}),{frequency[i]},{coverage[i]:.6f},")
    files = {
        "images.txt": paths,
        "parts/parts.txt": [f"{i} {name}" for i, name in enumerate(PARTS, start=1)],
        "parts/part_locs.txt": locations,
        "broden/index.csv": index,
        "broden/label.csv": labels,
        "broden/category.csv": categories,
    }
    for name, lines in files.items():
        (root / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
