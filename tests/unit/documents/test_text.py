"""Text of PDFs: every word is kept, and what cannot be read is refused in one clear sentence."""

import runpy
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tremor.documents.text import from_pages, read_pdf
from tremor.errors import ArtifactError

FOLDER = Path(__file__).resolve().parents[3] / "resources/pdf"
SAMPLE = FOLDER / "sample.pdf"


@pytest.fixture(scope="module")
def maker() -> dict[str, object]:
    return runpy.run_path(str(FOLDER / "make_sample.py"))


@pytest.fixture(scope="module")
def pdf_bytes(maker: dict[str, object]) -> Callable[[Sequence[str]], bytes]:
    made = maker["pdf_bytes"]
    assert callable(made)
    return made


def test_the_sample_is_what_its_script_writes(maker: dict[str, object], pdf_bytes: Callable[..., bytes]) -> None:
    assert SAMPLE.read_bytes() == pdf_bytes(maker["PAGES"])


def test_every_word_is_kept(maker: dict[str, object]) -> None:
    """The original dropped numbers from the context, and replaced symbols by spaces."""
    document = read_pdf(SAMPLE)
    pages = maker["PAGES"]
    assert isinstance(pages, tuple)
    assert [word.text for word in document.words] == [word for page in pages for word in page.split()]
    for word in ("1879", "384,400", "°C", "±", "€0.45", "½", "a[3]", "|x", "Núñez", "“Façade”", "brûlée", "µm"):
        assert word in {w.text for w in document.words}
    assert document.pages == 3
    assert [document.words[0].page, document.words[-1].page] == [1, 3]


def test_offsets_are_those_of_the_text() -> None:
    document = from_pages(["  one\n two\t", "", "\u00a0thr\u00e9e \ud800 4"])
    assert document.text == "one two thr\u00e9e \N{REPLACEMENT CHARACTER} 4"
    assert [document.text[word.start : word.stop] for word in document.words] == [w.text for w in document.words]
    assert [word.page for word in document.words] == [1, 1, 3, 3, 3]
    assert document.empty_pages == (2,)


def test_a_long_text_takes_more_pages(tmp_path: Path, pdf_bytes: Callable[..., bytes]) -> None:
    path = tmp_path / "long.pdf"
    path.write_bytes(pdf_bytes([" ".join(f"word{i}" for i in range(2000))]))
    document = read_pdf(path)
    assert len(document.words) == 2000
    assert document.pages > 2


def encrypted(path: Path, plain: bytes) -> None:
    import io

    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(plain)))
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(path)


def without_pages(path: Path) -> None:
    from pypdf import PdfWriter

    PdfWriter().write(path)


def test_refusals(tmp_path: Path, pdf_bytes: Callable[..., bytes]) -> None:
    path = tmp_path / "x.pdf"
    with pytest.raises(ArtifactError, match="does not exist"):
        read_pdf(path)
    sample = SAMPLE.read_bytes()
    for content, message in (
        (b"", "is empty"),
        (b"Only text, really.", "is no PDF file"),
        (pdf_bytes(["", "  "]), "no text on any of its 2 pages; it may be scanned"),
        (sample[: len(sample) // 3], "truncated or damaged"),
        (b"%PDF-1.4\n", "truncated or damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=message):
            read_pdf(path)
    encrypted(path, sample)
    with pytest.raises(ArtifactError, match="is encrypted; save a decrypted copy"):
        read_pdf(path)
    without_pages(path)
    with pytest.raises(ArtifactError, match="has no page"):
        read_pdf(path)


@pytest.mark.parametrize("place", range(20, 3700, 230))
def test_damage_gives_one_clear_error_or_text(tmp_path: Path, place: int) -> None:
    """Wherever bytes are overwritten: never another kind of exception."""
    content = bytearray(SAMPLE.read_bytes())
    content[place : place + 40] = b"\xff" * 40
    path = tmp_path / "x.pdf"
    path.write_bytes(bytes(content))
    try:
        assert read_pdf(path).words
    except ArtifactError as error:
        message = str(error)
        assert message.startswith(f"pdf.documents: {path}")
