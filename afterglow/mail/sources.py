"""The files of one mail, and its front matter."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from afterglow import strict_yaml
from afterglow.mail.locales import parted
from afterglow.problems import Problem, Problems, did_you_mean

#: `team` is for the shop's own people: only templates whose name begins with `_` are.
Kind = Literal["service", "marketing", "team"]
#: Those that there are: what `notify` sends, and the Monday digest.
TEAM_MAILS = ("_notify", "_digest")


class FrontMatter(BaseModel):
    """What stands between the two `---` lines of a template."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = Field(description="service: needed by the customer. marketing: only with consent.")
    topic: str | None = Field(default=None, description="A topic of shop.yaml; the flow's own unless given.")
    subject: str = Field(min_length=1, description="The subject; may hold expressions.")
    preheader: str = Field(description="The line that inboxes show after the subject; may hold expressions.")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file as it was written, or a part of it that begins on `first_line`."""

    file: str
    text: str
    first_line: int = 1

    def problem(self, message: str, line: int = 1, col: int = 1) -> Problem:
        """A problem at a place counted within this part."""
        return Problem(self.file, self.first_line + line - 1, col, message)


@dataclass(frozen=True, kw_only=True)
class MailSources:
    """Everything one mail is made of; `text` is None where the text part has to be derived."""

    front: FrontMatter
    places: Mapping[str, tuple[int, int]] = field(hash=False)
    body: Source
    text: Source | None
    layout: Source
    text_layout: Source
    footer: Source | None
    text_footer: Source | None

    def files(self) -> list[str]:
        """The files, sorted."""
        return sorted({part.file for part in self.parts()})

    def parts(self) -> list[Source]:
        """The parts that there are."""
        parts = (self.body, self.text, self.layout, self.text_layout, self.footer, self.text_footer)
        return [part for part in parts if part]


def find_sources(name: str, files: Mapping[str, str]) -> MailSources:
    """Gather the files of the mail `name`, such as `email/thank-you`.

    Parameters:
      files: contents by path. A path may begin anywhere above the template's folder; problems name it.

    Raises:
      Problems: the template, the layout or the front matter is missing or wrong.
    """
    folder = name.rpartition("/")[0]
    locale = parted(name)[1]

    def find(path: str) -> Source | None:
        key = path if path in files else next((k for k in sorted(files) if k.endswith("/" + path)), None)
        return Source(file=key, text=files[key]) if key is not None else None

    def beside(stem: str, ending: str) -> Source | None:
        """A file that mails share, in the mail's own language where there is one."""
        for path in (*(f"{stem}.{near}.{ending}" for near in _as_written(locale)), f"{stem}.{ending}"):
            if (source := find(f"{folder}/{path}" if folder else path)) is not None:
                return source
        return None

    def layout(path: str) -> Source:
        source = beside(*path.split("."))
        if source is None:
            message = f"There is no {path} beside this template; every mail needs the layout."
            raise Problems([Problem(whole.file, 1, 1, message)])
        return source

    def footer(ending: str) -> Source | None:
        return beside(f"_footer-{front.kind}", ending)

    found = find(f"{name}.mjml")
    if found is None:
        message = f"There is no template {name}.mjml.{did_you_mean(name, _names(files))}"
        raise Problems([Problem(f"{name}.mjml", 1, 1, message)])
    whole = found
    front, places, body = _split(whole)
    if (front.kind == "team") != name.rpartition("/")[2].startswith("_"):
        place = places.get("kind", (1, 1))
        message = "Mails of kind team go to the shop's own people, and only their names begin with '_'."
        raise Problems([Problem(whole.file, *place, message)])
    return MailSources(
        front=front,
        places=places,
        body=body,
        text=find(f"{name}.txt"),
        layout=layout("_layout.mjml"),
        text_layout=layout("_layout.txt"),
        footer=footer("mjml"),
        text_footer=footer("txt"),
    )


def _as_written(locale: str | None) -> Iterator[str]:
    """A locale, then what is left of it part by part: `fr-CA`, `fr`."""
    while locale:
        yield locale
        locale = locale.rpartition("-")[0]


def _split(whole: Source) -> tuple[FrontMatter, dict[str, tuple[int, int]], Source]:
    lines = whole.text.split("\n")
    end = next((n for n, line in enumerate(lines) if n and line.rstrip() == "---"), None)
    if lines[0].rstrip() != "---" or end is None:
        message = "A template begins with front matter between two lines '---': kind, subject and preheader."
        raise Problems([whole.problem(message)])
    # The first '---' becomes an empty line, so that the lines of the YAML are those of the file.
    document = strict_yaml.load("\n".join(["", *lines[1:end]]) + "\n", whole.file)
    front = strict_yaml.validated(document, FrontMatter)
    places = {key: document.place((key,)) for key in ("kind", "topic", "subject", "preheader")}
    return front, places, Source(file=whole.file, text="\n".join(lines[end + 1 :]), first_line=end + 2)


def _names(files: Mapping[str, str]) -> list[str]:
    """Mails by the last two parts of their paths, which is how flows name them."""
    return ["/".join(path.removesuffix(".mjml").split("/")[-2:]) for path in files if path.endswith(".mjml")]
