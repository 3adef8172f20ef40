"""Pages whose truth is known: HTML around a given body, and text that nobody would want to
learn from.

All of it is model-written, no real site's. A page is in one of three styles:

"semantic"    <nav>, <main>, <aside>, <footer>, as the standard means them
"named"       <div>s whose classes say what they are
"anonymous"   <div>s whose classes say nothing

Junk comes in kinds. The classifier of quality that ships learnt from those in GENERATED,
and never saw those in UNSEEN.
"""

from html import escape

import numpy as np

STYLES = ("semantic", "named", "anonymous")
GENERATED = ("navigation", "cookie banner", "keyword spam", "shuffled words")
UNSEEN = ("log lines", "terms of use")
JUNK_WORDS = 160  # about so many to a piece of junk
LINKS = """Home About Contact Products Services Blog News Careers Press Support FAQ Help Login Register Cart Wishlist
Account Settings Search Sitemap Privacy Terms Imprint Shipping Returns Stores Gift-cards Newsletter Facebook Twitter
Instagram YouTube Share Print Next Previous Older Newer Top Menu Close Categories Archive Tags Comments RSS"""
COOKIES = (
    "We use cookies to improve your experience on our site.",
    "By continuing to browse you accept our cookie policy.",
    "Accept all cookies. Reject all. Manage preferences.",
    "Some cookies are necessary for the site to work; others help us and our 314 partners to understand you.",
    "You can change your choice at any time in the settings.",
    "Strictly necessary: always active. Analytics: off. Marketing: off.",
    "Your privacy matters to us. We and our partners store and access information on your device.",
    "See our privacy notice for details of the data that is processed.",
)
GOODS = "shoes watches laptops mattresses sunglasses handbags phones insurance loans vitamins tickets hotels"
PRAISE = "cheap best buy discount online free top sale deal offer new price low shop review 2024 near-me"
TERMS = (
    "The Provider may amend these Terms at its sole discretion, and continued use constitutes acceptance thereof.",
    "To the fullest extent permitted by applicable law, all warranties, express or implied, are hereby disclaimed.",
    "In no event shall the Provider be liable for any indirect, incidental or consequential damages.",
    "The User shall indemnify and hold harmless the Provider from any claim arising out of the use of the Service.",
    "If any provision is held to be unenforceable, the remaining provisions shall remain in full force and effect.",
    "These Terms shall be governed by the laws of the place in which the Provider has its registered office.",
    "Notices under this Agreement shall be given in writing and shall be deemed received upon dispatch.",
    "The User grants the Provider a non-exclusive, worldwide and royalty-free licence to the submitted Content.",
)
ADVERTS = (
    "Sponsored: three shirts for the price of two, this weekend alone.",
    "Advertisement. Learn a language in ten minutes a day.",
    "You may also like: ten kitchens that will surprise you.",
    "Sign up for our newsletter and never miss an offer again.",
)
FOOTERS = (
    "Copyright Example Media. All rights reserved.",
    "Made with care. Imprint. Terms. Privacy.",
    "This site is a demonstration; any likeness to real ones is accidental.",
)
PARTS = {  # of a page: how each begins in each style
    "menu": ("<nav>", '<div class="navigation menu">', '<div class="b3">'),
    "cookies": (
        '<div class="cookie-banner">',
        '<div class="cookie-notice">',
        '<div class="q7">',
    ),
    "main": ("<main>", '<div class="article-content">', '<div class="k1">'),
    "advert": ("<aside>", '<div class="advert sidebar">', '<div class="z9">'),
    "footer": ("<footer>", '<div class="footer">', '<div class="m4">'),
}


def page(
    rng: np.random.Generator,
    title: str,
    body: str,
    style: str,
    charset: str | None = "utf-8",
) -> str:
    """Return an HTML page: each paragraph of the body a <p>, around it boilerplate in a
    style.

    Raises ValueError for an unknown style.
    """
    if style not in STYLES:
        raise ValueError(f"no style {style!r}; the styles are {', '.join(STYLES)}")
    at = STYLES.index(style)

    def part(name, inner):
        start = PARTS[name][at]
        element = start.strip("<>").split()[0]
        return f"{start}{inner}</{element}>"

    def some(options, count):
        return rng.choice(options, count, replace=False)

    links = "".join(
        f'<li><a href="/{i}">{link}</a></li>'
        for i, link in enumerate(some(LINKS.split(), 9))
    )
    paragraphs = "\n".join(
        f"<p>{escape(text)}</p>" for text in body.split("\n\n") if text.strip()
    )
    parts = (
        part("menu", f"<ul>{links}</ul>"),
        part("cookies", f"{' '.join(some(COOKIES, 2))} <button>OK</button>"),
        part("main", paragraphs),
        part("advert", f"<p>{' '.join(some(ADVERTS, 2))}</p>"),
        part("footer", f"<p>{some(FOOTERS, 1)[0]}</p>"),
    )
    meta = f'<meta charset="{charset}">' if charset else ""
    script = "<script>window.page = {id: 1, track: function () { return 0; }};</script>"
    head = f"<head>{meta}<title>{escape(title)}</title>{script}</head>"
    inner = "\n".join(parts)
    return f"<!DOCTYPE html>\n<html>{head}\n<body>\n{inner}\n</body></html>\n"


def junk(
    kind: str, rng: np.random.Generator, good: str = "", words: int = JUNK_WORDS
) -> str:
    """Return model-written junk of a kind with about so many words; "shuffled words" are
    those of a good text.

    Raises ValueError for a kind that is not in GENERATED or UNSEEN.
    """
    if kind not in _JUNK:
        raise ValueError(
            f"no junk of kind {kind!r} is generated; the kinds are {', '.join(_JUNK)}"
        )
    return _JUNK[kind](rng, words, good)


def _navigation(rng, words, _):
    rows = [rng.choice(LINKS.split(), rng.integers(3, 9)) for _ in range(words // 6 + 1)]
    between = str(rng.choice([" | ", " » ", "  ", "\n"]))
    return "\n".join(between.join(row) for row in rows)


def _sentences(rng, texts, words):
    picked = []
    while sum(len(text.split()) for text in picked) < words:
        picked.append(str(rng.choice(texts)))
    return "\n".join(picked)


def _keyword_spam(rng, words, _):
    goods = rng.choice(GOODS.split(), 3, replace=False)
    return " ".join(rng.choice([*goods, *PRAISE.split()], words))


def _shuffled(rng, words, good):
    return " ".join(rng.permutation(good.split())[:words])


def _log_lines(rng, words, _):
    lines = []
    for _ in range(words // 8 + 1):
        hour, minute, second, code, size = (rng.integers(n) for n in (24, 60, 60, 5, 9000))
        level = rng.choice(["INFO", "WARN", "DEBUG", "ERROR"])
        path = rng.choice(["/", "/api/v2/items", "/login"])
        status = (200, 301, 403, 404, 500)[code]
        lines.append(
            f"{hour:02}:{minute:02}:{second:02} {level} worker-{code} GET {path} {status} {size}b"
        )
    return "\n".join(lines)


_JUNK = {
    "navigation": _navigation,
    "cookie banner": lambda rng, words, _: _sentences(rng, COOKIES, words),
    "keyword spam": _keyword_spam,
    "shuffled words": _shuffled,
    "log lines": _log_lines,
    "terms of use": lambda rng, words, _: _sentences(rng, TERMS, words),
}
