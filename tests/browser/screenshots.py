"""Takes the pictures of docs/screenshots anew: `python -m tests.browser.screenshots`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.driver import demo, run_script
from tests.browser.test_pages import ADDRESS, university

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
#: What the documents show: a picture of each state in one width and one colour scheme, of some in all of them.
KEPT = (
    *(
        f"{what}-{look}"
        for what in ("landing", "try-chat")
        for look in ("360-light", "360-dark", "1280-light", "1280-dark")
    ),
    *("terms-before-360-dark", "terms-before-1280-light", "terms-after-360-light", "terms-after-1280-dark"),
    *("terms-error-360-light", "try-login-360-dark", "try-login-1280-light"),
)
COLOURS = 32
#: Pixels of the longest picture.
HEIGHT = 1300


def main() -> None:
    """Write the files, as small as they get without looking worse."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        taken = folder / "screenshots"
        with university(folder / "university") as daemon:
            run_script("landing.mjs", daemon, taken, ADDRESS)
        for script in ("terms.mjs", "try_pictures.mjs"):
            with demo(folder / script) as daemon:
                run_script(script, daemon, taken)
        FOLDER.mkdir(exist_ok=True)
        for one in KEPT:
            with Image.open(taken / f"{one}.png") as picture:
                shown = picture.convert("RGB").crop((0, 0, picture.width, min(picture.height, HEIGHT)))
                small = shown.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
                small.save(FOLDER / f"{one}.png", optimize=True)
            print(one, (FOLDER / f"{one}.png").stat().st_size)


if __name__ == "__main__":
    main()
