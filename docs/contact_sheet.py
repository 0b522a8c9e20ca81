"""Draw docs/drawn_30.jpg, some images of every category: `python docs/contact_sheet.py` after `dvc repro`."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

TILE, COLUMNS = 104, 8
ROOT = Path(__file__).parents[1]

folders = sorted((ROOT / "data/raw/drawn_30/256_ObjectCategories").iterdir())
sheet = Image.new("RGB", (90 + COLUMNS * TILE, len(folders) * TILE), "white")
pen = ImageDraw.Draw(sheet)
for row, folder in enumerate(folders):
    pen.text((6, (row + 0.5) * TILE), folder.name.partition(".")[2], fill="black", anchor="lm", font_size=16)
    for column, file in enumerate(sorted(folder.iterdir())[:COLUMNS]):
        with Image.open(file) as image:
            tile = ImageOps.pad(image, (TILE - 4, TILE - 4), color="white")
        sheet.paste(tile, (90 + column * TILE + 2, row * TILE + 2))
sheet.save(ROOT / "docs/drawn_30.jpg", quality=85)
