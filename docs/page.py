"""Take docs/page.png, the top of the report: `python docs/page.py` after `dvc repro`; it needs chromium."""

import subprocess
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 1200, 1145  # pixels

with tempfile.TemporaryDirectory() as folder:
    shot = Path(folder) / "page.png"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--window-size={WIDTH},{2 * HEIGHT}",
    ]
    command = ["chromium", *options, f"--screenshot={shot}", (ROOT / "reports/index.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(shot) as page:
        top = page.convert("RGB").crop((0, 0, WIDTH, HEIGHT))
top.quantize(128, dither=Image.Dither.NONE).save(ROOT / "docs/page.png", optimize=True)
