"""Text of a PDF file by pages (pypdf; no torch), cut into words: nothing is dropped but white space."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tremor.errors import ArtifactError

_SIGNATURE_WITHIN = 1024  # bytes; where readers of PDF look for it
# What else a damaged file makes pypdf raise; its own errors are PyPdfError.
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, RecursionError, OSError)


@dataclass(frozen=True)
class Word:
    """A piece of text between white space.

    Attributes:
        text: The word with all its punctuation.
        page: Page it stands on, from 1.
        start: Offset of its first character in the document's text.
        stop: Offset behind its last one.
    """

    text: str
    page: int
    start: int
    stop: int


@dataclass(frozen=True)
class Document:
    """A document as a model reads it.

    Attributes:
        text: All words with one space between them.
        words: The words, in reading order.
        pages: Number of pages.
        empty_pages: Numbers of the pages without text.
    """

    text: str
    words: tuple[Word, ...]
    pages: int
    empty_pages: tuple[int, ...]


def from_pages(pages: list[str]) -> Document:
    """Words of some pages of text: cut at white space (all that Unicode calls so), in order.

    Args:
        pages: Text of each page.
    """
    words = []
    start = 0
    for number, page in enumerate(pages, start=1):
        # A lone surrogate is no character and no tokenizer takes it; extraction leaves them where a font is odd.
        clean = re.sub(r"[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", page).replace("\0", " ")
        for text in clean.split():
            words.append(Word(text, number, start, start + len(text)))
            start += len(text) + 1
    empty = tuple(number for number, page in enumerate(pages, start=1) if not page.split())
    return Document(" ".join(word.text for word in words), tuple(words), len(pages), empty)


def read_pdf(path: Path) -> Document:
    """Read the text of a PDF file.

    Args:
        path: The file.

    Returns:
        Its words, numbers and symbols included.

    Raises:
        ArtifactError: the file is missing, empty, no PDF, damaged, encrypted, or has no text (scanned pages).
    """
    where = f"pdf.documents: {path}"
    if not path.is_file():
        raise ArtifactError(f"{where} does not exist; check the path")
    with path.open("rb") as file:
        start = file.read(_SIGNATURE_WITHIN)
    if not start:
        raise ArtifactError(f"{where} is empty; copy it again")
    if b"%PDF-" not in start:
        raise ArtifactError(f"{where} is no PDF file; convert it to PDF, or name another one")
    pages = _pages(path, where)
    document = from_pages(pages)
    if not document.words:
        what = (
            f"no text on any of its {len(pages)} pages; it may be scanned: run OCR on it first" if pages else "no page"
        )
        raise ArtifactError(f"{where} has {what}")
    return document


def _pages(path: Path, where: str) -> list[str]:
    import pypdf
    from pypdf.errors import FileNotDecryptedError, PyPdfError

    reading = logging.getLogger("pypdf")
    before = reading.level
    reading.setLevel(logging.ERROR)  # it warns of every odd object of a file, several times
    try:
        reader: Any = pypdf.PdfReader(path)
        if reader.is_encrypted:
            raise ArtifactError(f"{where} is encrypted; save a decrypted copy (qpdf --decrypt) and name that one")
        return [page.extract_text() or "" for page in reader.pages]
    except FileNotDecryptedError as error:
        raise ArtifactError(
            f"{where} is encrypted; save a decrypted copy (qpdf --decrypt) and name that one"
        ) from error
    except (PyPdfError, *_DAMAGE) as error:
        raise ArtifactError(f"{where} is truncated or damaged ({type(error).__name__}); copy it again") from error
    finally:
        reading.setLevel(before)
