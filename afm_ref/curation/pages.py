"""HTML pages around a known body: menus, banners, adverts and footers, all model-written, no real site's.

"semantic"    <nav>, <main>, <aside>, <footer>, as the standard means them
"named"       <div>s whose classes say what they are
"anonymous"   <div>s whose classes say nothing
"""

from html import escape

import numpy as np

from . import junk

STYLES = ("semantic", "named", "anonymous")
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
NAMES = {  # part: (element, class) in each style
    "menu": (("nav", ""), ("div", "navigation menu"), ("div", "b3")),
    "cookies": (("div", "cookie-banner"), ("div", "cookie-notice"), ("div", "q7")),
    "main": (("main", ""), ("div", "article-content"), ("div", "k1")),
    "advert": (("aside", ""), ("div", "advert sidebar"), ("div", "z9")),
    "footer": (("footer", ""), ("div", "footer"), ("div", "m4")),
}


def page(rng: np.random.Generator, title: str, body: str, style: str, charset: str | None = "utf-8") -> str:
    """Return an HTML page: each paragraph of the body a <p>, around it boilerplate in a style.

    Raises ValueError for an unknown style.
    """
    if style not in STYLES:
        raise ValueError(f"no style {style!r}; the styles are {', '.join(STYLES)}")
    at = STYLES.index(style)

    def part(name, inner):
        element, classes = NAMES[name][at]
        attribute = f' class="{classes}"' if classes else ""
        return f"<{element}{attribute}>{inner}</{element}>"

    links = "".join(f'<li><a href="/{i}">{link}</a></li>' for i, link in enumerate(_some(rng, junk.LINKS.split(), 9)))
    paragraphs = "\n".join(f"<p>{escape(text)}</p>" for text in body.split("\n\n") if text.strip())
    parts = (
        part("menu", f"<ul>{links}</ul>"),
        part("cookies", " ".join(_some(rng, junk.COOKIES, 2)) + " <button>OK</button>"),
        part("main", paragraphs),
        part("advert", f"<p>{' '.join(_some(rng, ADVERTS, 2))}</p>"),
        part("footer", f"<p>{_some(rng, FOOTERS, 1)[0]}</p>"),
    )
    meta = f'<meta charset="{charset}">' if charset else ""
    script = "<script>window.page = {id: 1, track: function () { return 0; }};</script>"
    head = f"<head>{meta}<title>{escape(title)}</title>{script}</head>"
    return f"<!DOCTYPE html>\n<html>{head}\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"


def _some(rng, options, count):
    return [options[i] for i in rng.choice(len(options), size=count, replace=False)]
