"""What the book says of the place where it is published, or, with no address set, of none.

Buttons for Colab, Binder and the repository, the address of the site, the role `notebook`. Without
an address there are no buttons, and every page that runs says how to run it on one's own computer.
"""

from docutils import nodes
from sphinx.util.docutils import SphinxRole

from adversarial_lab import address
from tools.book import ROOT

BUTTONS = ("use_issues_button", "use_repository_button", "use_edit_page_button")
SOURCES = ("{}/master.md", "book/{}.md", "demos/{}.md")
HERE = "To run this page on your own computer: in a copy of the project, "


def setup(app):
    """Connect everything; called by chapter_book."""
    app.add_role("notebook", Notebook())
    app.connect("config-inited", configure, priority=100)  # before those who read it
    app.connect("html-page-context", point_launchers, priority=900)
    if not address.read():
        app.connect("doctree-resolved", say_how_to_run_here)


class Notebook(SphinxRole):
    """`exercises/pgd`: where notebooks/exercises/pgd.ipynb opens, or the name of the file."""

    def run(self):
        """Two links, or a literal; what no notebook is made from is an error."""
        if not any((ROOT / source.format(self.text)).is_file() for source in SOURCES):
            text = f"no notebook is called {self.text!r}"
            return [], [self.inliner.reporter.error(text, line=self.lineno)]
        place, path = address.read(), f"notebooks/{self.text}.ipynb"
        if not place:
            return [nodes.literal("", path)], []
        colab = nodes.reference("", "in Colab", refuri=place.colab(self.text))
        source = nodes.reference("", "in the repository", refuri=place.blob(path))
        return [colab, nodes.Text(", or "), source], []


def configure(app, config):
    """Hand the address to Sphinx, the theme and opengraph."""
    place, options = address.read(), config.html_theme_options
    config.html_baseurl = config.ogp_site_url = place.site
    options.update(dict.fromkeys(BUTTONS, bool(place)))
    options["repository_url"] = place.source if place else ""
    options["repository_branch"] = place.branch  # a page cannot be edited at a tag
    if not place:
        options["launch_buttons"] = {}
        disconnect(app, "html-page-context", "sphinxext.opengraph")  # speaks of a site alone


def point_launchers(app, pagename, templatename, context, doctree):
    """Colab and Binder cannot open a .md page: point them at its notebook, at the release's tag."""
    place, stem = address.read(), pagename.rpartition("/")[2]
    opened = {"Colab": place.colab(stem), "Binder": place.binder(stem)}
    groups = [group.get("buttons", []) for group in context.get("header_buttons", [])]
    for button in (button for group in groups for button in group):
        if button.get("text") in opened:
            button["url"] = opened[button["text"]]


def say_how_to_run_here(app, doctree, docname):
    """One sentence at the end of a page that runs."""
    if "kernelspec" not in app.env.metadata[docname] or app.builder.name != "html":
        return
    opened = f"jupyter lab notebooks/{docname.rpartition('/')[2]}.ipynb"
    install, then = nodes.literal("", "pip install . jupyterlab"), nodes.literal("", opened)
    said = [nodes.Text(HERE), install, nodes.Text(", then "), then, nodes.Text(".")]
    next(iter(doctree.findall(nodes.section))).append(nodes.paragraph("", "", *said))


def disconnect(app, event, module):
    """Let no function of this module hear of the event."""
    for listener in list(app.events.listeners[event]):
        if listener.handler.__module__.startswith(module):
            app.disconnect(listener.id)
