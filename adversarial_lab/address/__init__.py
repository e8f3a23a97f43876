"""Where the project is published: whatever links to it or installs it asks here.

The address stands in `address.toml` beside this module. `make address REPO=owner/name` sets it, and
writes it into what cannot ask: README, metadata, notebooks. It is empty until then, and never
guessed from a git remote, because a fork would then rewrite its notebooks without a word.
"""

import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

DISTRIBUTION = "adversarial-lab-companion"
FILE = Path(__file__).with_name("address.toml")
REPOSITORY = re.compile(
    r"(?P<owner>[A-Za-z0-9](-?[A-Za-z0-9]){0,38})/(?P<name>[\w.-]{1,100})", re.A
)
REF = re.compile(r"(?!\.)(?!.*\.\.)\w[\w.+-]*(?<!\.)(?<!\.lock)", re.A)
SITE = re.compile(r"https?://[A-Za-z0-9.-]+(:\d+)?/([\w.~/-]*/)?", re.A)


@dataclass(frozen=True)
class Address:
    """A repository on GitHub, the branch or tag to link to, and the site; false if there is none.

    repository: "owner/name"; branch: where work goes on; tag: of the release, in a release alone;
    site: ends with "/". ValueError says which of them is malformed.
    """

    repository: str = field(
        default="", metadata={"form": REPOSITORY, "is": "owner/name, on GitHub"}
    )
    branch: str = field(default="main", metadata={"form": REF, "is": "a branch, without slashes"})
    tag: str = field(default="", metadata={"form": REF, "is": "a tag, without slashes"})
    site: str = field(default="", metadata={"form": SITE, "is": "https://..., ending with a slash"})

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if value != part.default and not part.metadata["form"].fullmatch(value):
                raise ValueError(f"{part.name} {value!r} must be {part.metadata['is']}")
        if bool(self.repository) != bool(self.site):
            raise ValueError(f"repository {self.repository!r} and site {self.site!r} go together")

    def __bool__(self) -> bool:
        return bool(self.repository)

    @property
    def ref(self) -> str:
        """The tag of a release, between releases the branch."""
        return self.tag or self.branch

    @property
    def source(self) -> str:
        """The repository, for a browser."""
        return f"https://github.com/{self.repository}"

    @property
    def requirement(self) -> str:
        """What pip installs; empty without an address."""
        return f"git+{self.source}@{self.ref}" if self else ""

    def blob(self, path: str) -> str:
        """A file of the repository, for a browser."""
        return f"{self.source}/blob/{self.ref}/{path}"

    def asset(self, file: str) -> str:
        """A file that is attached to the release, between releases to the latest."""
        release = f"download/{self.tag}" if self.tag else "latest/download"
        return f"{self.source}/releases/{release}/{file}"

    def colab(self, notebook: str) -> str:
        """What opens notebooks/<notebook>.ipynb in Colab."""
        opened = "https://colab.research.google.com/github"
        return f"{opened}/{self.repository}/blob/{self.ref}/notebooks/{notebook}.ipynb"

    def binder(self, notebook: str) -> str:
        """What opens notebooks/<notebook>.ipynb in Binder."""
        opened = f"https://mybinder.org/v2/gh/{self.repository}/{self.ref}"
        return f"{opened}?urlpath=lab/tree/notebooks/{notebook}.ipynb"


def read(file: Path = FILE) -> Address:
    """The address as it is set."""
    return Address(**tomllib.loads(file.read_text(encoding="utf-8")))


def advice(extra: str = "") -> str:
    """The command that installs the library, with an extra of pyproject.toml if one is named."""
    address, extras = read(), f"[{extra}]" if extra else ""
    if address:
        return f"pip install '{DISTRIBUTION}{extras} @ {address.requirement}'"
    return f"pip install '.{extras}' in a copy of the project"
