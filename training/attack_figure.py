"""Draw the README's figure: `python -m training.attack_figure [--out FILE]`; needs Playwright and Chromium.

It is the first image on the page of `smoothguard demo --save`, laid out for one screen.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.cli.demo import outcomes, summary
from smoothguard_guardrail.cli.demo.save import save_page
from smoothguard_guardrail.evaluation.shared import resolve_model
from smoothguard_guardrail.models.reference.demo import load_demo

OUT = Path(__file__).parents[1] / "docs" / "assets" / "attack.png"
WIDTH, SCALE = 1080, 1.5
LAYOUT = f"""
body.sg-page {{ max-width: none; width: {WIDTH}px; padding: 0 }}
h1, details, .sg-page > main > p, .verdict + .figures, .sg > .verdict, .map {{ display: none }}
main > section {{ padding: 1rem 1.2rem 1.2rem }} .sg-page h2 {{ margin-top: 0 }}
.sg {{ display: grid; grid-template-columns: 3fr 2fr; gap: 1.2rem 1.8rem; align-items: start }}
.sg h3 {{ margin-top: 0 }} .sg + .sg {{ margin-top: 1.2rem }}
.sg .two {{ grid-template-columns: 1fr 1fr; gap: 1rem }}
.sg section[aria-label="The vote"] {{ grid-column: span 2 }}
.sg section[aria-label="What the model saw"] {{ order: -1 }}
.sg .copies {{ grid-template-columns: repeat(4, 1fr) }} .sg .original, .difference, .side .small {{ display: none }}
.sg .answer {{ font-size: 1.05rem }}
"""


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="where the figure is written")
    out = parser.parse_args().out
    model, config = resolve_model("reference"), SmoothGuardConfig.reference(seed=0, record_samples=True)
    found = list(outcomes(model, config, load_demo().pictures[:1]))
    with tempfile.TemporaryDirectory() as folder:
        page = save_page(Path(folder), model, config, found, summary(found))
        image = Image.open(io.BytesIO(photograph(page)))
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)
    print(f"{out}: {image.width} x {image.height} pixels, {out.stat().st_size:,} bytes")


def photograph(page: Path) -> bytes:
    """Return a page of one section, in this figure's layout, as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(
            viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE, color_scheme="light", bypass_csp=True
        )
        shown.goto(page.as_uri())
        shown.add_style_tag(content=LAYOUT)
        taken = shown.locator("main > section").screenshot()
        browser.close()
    return taken


if __name__ == "__main__":
    main()
