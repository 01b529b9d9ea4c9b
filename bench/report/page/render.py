"""How values become one file of HTML: templates that escape, the DataTables bundle of `itables` inside, and a policy that lets nothing out.

The page's own script is allowed by its hash alone and the bundle as a blob, so that text from records could not run even unescaped.
"""

import base64
import gzip
import hashlib
import re
from importlib.resources import files

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape


def render(template: str, script: str, **values: object) -> str:
    """A template with `values` escaped; `script` names the file of the page's own script."""
    environment = Environment(loader=PackageLoader("bench.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"breakable": breakable, "items": items, "noted": noted}
    code, style = _own(script), _own("page.css")
    return environment.get_template(template).render(
        values,
        script=Markup(code),
        style=Markup(style),
        bundle={"script": _packed("dt_bundle.js"), "style": _packed("dt_bundle.css")},
        policy=_policy(code),
    )


def breakable(text: str) -> Markup:
    """Escaped, with places where a long name may break: after a dot or underscore within a word, before a bracket."""
    places = re.split(r"(?<=\w[._])(?=[a-z])|(?=\[)", text)
    return Markup("<wbr>").join(escape(part) for part in places)


def items(text: str) -> list[str]:
    """The parts of a long cell: between semicolons that stand outside brackets."""
    return re.split(r"; (?![^()]*\))", text)


def noted(text: str, anchor: str) -> Markup:
    """Escaped; a cell of nothing but numbers of notes, `[1] [2]`, leads to those notes."""
    if not anchor or re.fullmatch(r"(\[\d+\]\s*)+", text) is None:
        return escape(text)
    links = [Markup('<a href="#{0}-{1}" aria-label="note {1}">[{1}]</a>').format(anchor, number) for number in re.findall(r"\d+", text)]
    return Markup(" ").join(links)


def _own(name: str) -> str:
    """A script or style of ours."""
    return (files("bench.report") / "templates" / name).read_text(encoding="utf-8")


def _packed(name: str) -> str:
    """A file of the DataTables bundle, gzip in base64: a third of its size, and no end tag can stand in it."""
    content = (files("itables") / "html" / name).read_bytes()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}' blob:; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
