"""Pages as a browser reads them: tags that close, nothing loaded from elsewhere, no script."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "polyline", "circle", "rect", "line", "polygon", "br"}


class Page(HTMLParser):
    """Tags that are open, what was seen, and texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def stands_alone(text):
    """Assert that a page is well formed and needs nothing else; returns it parsed."""
    page = Page(text)
    assert not page.open
    assert not {"script", "link", "iframe", "object", "img", "audio", "video", "form"} & set(page.seen)
    assert not [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "action", "style")]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in text
    assert "url(" not in text
    return page
