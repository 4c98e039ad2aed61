"""Write sample.pdf: a small PDF made from scratch, with numbers, symbols and letters beyond ASCII.

    python resources/pdf/make_sample.py          # writes sample.pdf beside this file, the same bytes each time

Text is set in Helvetica, one of the fonts that every reader of PDF has, in its Windows encoding (code page 1252).
"""

from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, MARGIN, SIZE, LEADING = 595, 842, 60, 11, 15  # points; A4
LINE = 88  # characters

PAGES = (
    """A Short Walk Through Numbers and Names

The capital of France is Paris. The capital of Japan is Tokyo. The capital of Italy is Rome. The capital of
Spain is Madrid. France is a country in Europe. Japan is a country in Asia. Brazil is a country in South
America. These are facts that a model may know by heart, and a reader can see in the plots of this document that
it does: where the sentence is familiar, the next word costs almost nothing.

Other sentences must be read as they come. On 14 March 1879 a child was born in Ulm; on 20 July 1969 two people
walked on the Moon, about 384,400 km away. A litre of water weighs 1 kg (at 4 °C), light needs 8 min 20 s from
the Sun, and the speed of sound in dry air at 20 °C is 343 m/s, or 1,235 km/h. None of these numbers can be
guessed from grammar alone. Who has not met them before pays for every digit.""",
    """Symbols and Letters

Prices: 3 apples at €0.45 each make €1.35; with 19 % tax (§ 12) the sum is €1.61 ± €0.01. A room of 4 × 5 m has
an area of 20 m², and a cube of 2 m a volume of 8 m³. A hair is 70 µm wide. Half a dozen is ½ × 12 = 6. Tests
say "pass" if |x - y| < 1e-6, and fail otherwise; a[3] = b * (c + d) / 2 is a line of a program, and so is if x
!= y: return {x: 1, y: 2}.

Names travel with their accents: Zoë ate crème brûlée in a café in Orléans, Jürgen lives in Köln, Señora Núñez
comes from Málaga, Søren from Århus, Björk from Reykjavík. “Façade” and ‘naïve’ are English words too – or so
the dictionary says… A tokenizer that works on bytes cuts each such letter into two or three pieces, and the
first of them seldom tells which one is meant.""",
    """How to Read the Plots

For every word this study writes down how probable the model thought it, given the words before. Short and
frequent words, such as the, of, and a, are foreseen well. Names, numbers and the first word of a sentence are
not. When a word comes a second time it is often cheaper than the first time. The word seismograph stands here
once, and now the word seismograph stands here twice.

The running perplexity falls while the model settles into the text, and rises again where the topic changes. The
rank of a word is 1 if it was the best guess. The capital of France is Paris, and 2 + 2 = 4; after 1, 2, 3, 4,
5, 6, 7, 8 comes 9. The end of the document is the end of the plot.""",
)


def _lines(text: str) -> list[str]:
    """Lines of at most LINE characters, by paragraph."""
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        line = ""
        for word in paragraph.split():
            if line and len(line) + 1 + len(word) > LINE:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines += [line, ""]
    return lines


def _content(lines: Sequence[str]) -> bytes:
    parts = [f"BT /F1 {SIZE} Tf {LEADING} TL {MARGIN} {HEIGHT - MARGIN} Td".encode()]
    for line in lines:
        raw = line.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
        parts.append(b"(" + raw + b") Tj T*")
    return b"\n".join([*parts, b"ET"])


def pdf_bytes(pages: Sequence[str]) -> bytes:
    """A PDF file with one page for each text; a long text is continued on further pages.

    Args:
        pages: Texts with characters of code page 1252; paragraphs are separated by empty lines.
    """
    per_page = (HEIGHT - 2 * MARGIN) // LEADING
    sheets: list[bytes] = []
    for text in pages:
        lines = _lines(text)
        sheets += [_content(lines[start : start + per_page]) for start in range(0, max(len(lines), 1), per_page)]
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(sheets)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(sheets)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, sheet in enumerate(sheets):
        page = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] "
        page += f"/Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * number} 0 R >>"
        objects += [page.encode(), b"<< /Length %d >>\nstream\n%b\nendstream" % (len(sheet), sheet)]
    out = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    table += b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + table + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(out))


if __name__ == "__main__":
    Path(__file__).with_name("sample.pdf").write_bytes(pdf_bytes(PAGES))
