"""Where a page's links and pictures lead: links to the repository's files, and PNG files embedded in the page."""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from omegaconf import OmegaConf
from PIL import Image

from scripts.reporting.modules import REPOSITORY, short


def is_of_another_site(address: str) -> bool:
    """Return whether an address has a scheme or a host of its own: a link that leads out of the repository."""
    parts = urlsplit(address)
    return bool(parts.scheme or parts.netloc)


def web_address(repository: Path) -> str | None:
    """Return the repository's address on the web, or None where its CITATION.cff has no `repository-code`."""
    citation = repository / "CITATION.cff"
    found = OmegaConf.load(citation).get("repository-code") if citation.is_file() else None
    return str(found).rstrip("/") if found else None


class Links:
    """Links of a report, as its page `out` needs them; `web` is the address of `repository`, None where it has none."""

    def __init__(self, report: Path, out: Path, repository: Path = REPOSITORY) -> None:
        self.report, self.out, self.repository = (Path(os.path.abspath(path)) for path in (report, out, repository))
        self.web = web_address(self.repository)

    def file(self, address: str) -> Path:
        """Return the file or folder that a relative address of the report leads to."""
        return Path(os.path.normpath(self.report.parent / unquote(urlsplit(address).path)))

    def target(self, address: str) -> str:
        """Return the address, from the page, of what the report's `address` leads to."""
        if is_of_another_site(address) or address.startswith("#"):
            return address
        path, fragment = self.file(address), urlsplit(address).fragment
        if self.web and path.is_relative_to(self.repository):
            found = f"{self.web}/blob/HEAD/{quote(path.relative_to(self.repository).as_posix(), safe='/@,=')}"
        else:
            found = quote(Path(os.path.relpath(path, self.out.parent)).as_posix(), safe="/@,=")
        return f"{found}#{fragment}" if fragment else found

    def picture(self, address: str) -> tuple[str, int, int]:
        """Return a picture as a data: address, with its width and height in pixels.

        Raises ValueError where it is on another site, missing or no whole PNG.
        """
        if is_of_another_site(address):
            raise ValueError(f"the picture {_cut(address)} is no file beside the report")
        path = self.file(address)
        if not path.is_file():
            raise ValueError(f"there is no picture {short(path)}; make figures draws it")
        content = path.read_bytes()
        try:
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                width, height = image.size
                image.verify()
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for a damaged file
            raise ValueError(f"{short(path)} is no whole PNG; make figures draws it again") from error
        return f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height


def _cut(address: str, length: int = 80) -> str:
    return re.sub(r"\s", " ", address[:length]) + ("..." if len(address) > length else "")
