"""The page of a report in headless Chromium: drawn as it should be, without network, and nothing to complain of."""

from __future__ import annotations

import colorsys
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from janode.conformance.page import as_html
from janode.conformance.report import read_report

from .test_conformance_reports import report

EVIDENCE = Path(__file__).parents[1] / "conformance" / "evidence" / "linux_x86_64_cpu.json"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
PAGES = {"evidence": as_html(read_report(EVIDENCE)), "with a failure": as_html(report())}
GREEN, RED = (130, 0.65, 0.75), (221, 51, 51)
"""What is far below its tolerance (hue in degrees, saturation, lightness), and what failed."""
WIDTH, HEIGHT = 1400, 3000

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"absent: no browser, that is none of {', '.join(NAMES)}")


def browse(folder: Path, page: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Chromium on a page, with no name resolved and all that the page says on stderr."""
    file = folder / "page.html"
    file.write_text(page)
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-prefers-color-scheme=light")
    network = ("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}")
    command = [str(BROWSER), *quiet, *network, "--enable-logging=stderr", *arguments, file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_read_whole_and_without_complaint(name: str, tmp_path: Path) -> None:
    seen = browse(tmp_path, PAGES[name], "--dump-dom")
    for tag in ("<tr", "<td", "<th", "<li", "<section"):
        assert seen.stdout.count(tag) == PAGES[name].count(tag)
    assert "CONSOLE" not in seen.stderr
    assert "net::ERR" not in seen.stderr


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window(name: str, tmp_path: Path) -> None:
    measure = "<script>document.title = document.documentElement.scrollWidth + '/' + innerWidth</script></body>"
    page = PAGES[name].replace("</body>", measure)
    seen = browse(tmp_path, page, "--dump-dom", f"--window-size={WIDTH},{HEIGHT}")
    found = re.search(r"<title>(\d+)/(\d+)</title>", seen.stdout)
    assert found is not None
    assert int(found[1]) <= int(found[2]) == WIDTH


def share(picture: np.ndarray, colour: tuple[float, ...]) -> float:
    """Which share of the picture has a colour, to one part in 255."""
    return float(np.mean(np.all(np.abs(picture - np.asarray(colour)) <= 1.5, axis=-1)))


@pytest.mark.parametrize(("name", "has_failed"), [("evidence", False), ("with a failure", True)])
def test_a_screenshot_shows_the_heat_map(name: str, has_failed: bool, tmp_path: Path) -> None:
    file = tmp_path / "page.png"
    browse(tmp_path, PAGES[name], f"--screenshot={file}", f"--window-size={WIDTH},{HEIGHT}")
    picture = 255 * imread(file)[:, :, :3]
    assert picture.shape == (HEIGHT, WIDTH, 3)
    hue, saturation, lightness = GREEN
    green = tuple(255 * part for part in colorsys.hls_to_rgb(hue / 360, lightness, saturation))
    assert share(picture, green) > 5e-4
    assert (share(picture, RED) > 1e-4) is has_failed
