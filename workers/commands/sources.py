"""Getting connected: `connect`, and `source` (try, test, ping)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from afterglow.language.catalog import Catalog
    from afterglow.language.source import Source
    from db.settings import Settings
    from workers.trying import Story

AsJson = Annotated[bool, typer.Option("--json", help="JSON, for scripts.")]
Name = Annotated[str, typer.Argument(metavar="SOURCE", help="The name of a file in flows/sources/.")]
#: How long a hook may take to answer, in seconds.
ANSWER_S_MAX = 10.0

family = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Try out what a source file makes of webhooks.")


def add_to(main: typer.Typer) -> None:
    """Declare the commands."""
    main.command()(connect)
    main.add_typer(family, name="source")


# -- connect -------------------------------------------------------------------------------------------------


def connect(
    source: Annotated[str | None, typer.Argument(help="One source; all of them if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how to connect a source, and what proves it.

    Its address, what to subscribe, the variable of its secret, and a curl.
    """
    settings, catalog, _ = _shop()
    if source is None:
        _list(settings, catalog, as_json=as_json)
        return
    told = _connection(settings, catalog, _known(catalog, source), _last_received(settings).get(source))
    if as_json:
        from workers.commands.console import say_json

        say_json(told)
        return
    _say_connection(told, settings)


def _list(settings: "Settings", catalog: "Catalog", *, as_json: bool) -> None:
    from workers.commands.console import say_json, say_next, say_table

    heard = _last_received(settings)
    rows = [_standing(settings, source, heard.get(name)) for name, source in sorted(catalog.sources.items())]
    if as_json:
        say_json(rows)
        return
    say_table(
        ("source", "address", "secret", "last received"),
        [(row["source"], row["address"], row["secret"], row["last_received"]) for row in rows],
    )
    if rows:
        say_next((f"afterglow connect {rows[0]['source']}", "how to connect it, and what proves it"))


def _standing(settings: "Settings", source: "Source", last: "datetime | None") -> dict[str, Any]:
    variables = _variables(source)
    if source.auth == "none":
        secret = "none needed"
    else:
        secret = "set" if any(variable["is_set"] for variable in variables) else "not set"
    return {
        "source": source.name,
        "address": f"{settings.public_url}/hooks/{source.name}",
        "secret": secret,
        "last_received": last,
    }


def _connection(settings: "Settings", catalog: "Catalog", source: "Source", last: "datetime | None") -> dict[str, Any]:
    from afterglow import connecting
    from workers.commands.console import instant

    standing = _standing(settings, source, last)
    body, trials = connecting.ping(source, now=instant(), known_events=catalog.events)
    return {
        **standing,
        "about": source.about,
        "topics": list(source.topics),
        "variables": _variables(source),
        "curl": connecting.curl(source, standing["address"], body),
        "status": connecting.success(source),
        "ping": f"afterglow source ping {source.name}",
        "becomes": [_in_short(trial.result) for trial in trials],
    }


def _say_connection(told: dict[str, Any], settings: "Settings") -> None:
    from workers.commands.console import moment, say, say_lines, say_next

    say(told["about"] or told["source"], style="bold")
    say()
    say_lines([f"Address   {told['address']}"])
    if not settings.is_public:
        say("Only this machine reaches it there: set AFTERGLOW_PUBLIC_URL to how others do.", indent=10)
    for variable in told["variables"]:
        state = "set" if variable["is_set"] else "not set"
        say_lines([f"Secret    {variable['name']} ({state})"])
        if variable["problem"]:
            say(variable["problem"], indent=10)
    if not told["variables"]:
        say_lines(["Secret    none: whoever knows the address can post"])
    elif told["secret"] == "not set":
        say("Without it every request is refused; put it into .env or the environment, then start again.", indent=10)
    for n, topic in enumerate(told["topics"]):
        say_lines([f"{'' if n else 'Topics':10}{topic}"])
    if not told["topics"]:
        say("Topics    its file names none; what to subscribe is what its rules speak of")
    last = told["last_received"]
    say_lines([f"Received  {'last ' + moment(last) + ' UTC' if last else 'nothing lately'}"])
    say()
    if told["curl"]:
        proof = f"{told['status']} proves the way, the address and the secret"
        say(f"Paste this into a shell that has the secret. {proof}:")
        say()
        say_lines([told["curl"]])
    else:
        say("No shell signs this scheme easily; the ping below signs and posts from here.")
    say(f"What it becomes: {'; '.join(told['becomes'])}.")
    say_next(
        (told["ping"], "sign and post the same from here"),
        (f"afterglow source try {told['source']} FILE", "what a payload would become"),
    )


def _variables(source: "Source") -> list[dict[str, Any]]:
    from afterglow.signatures import secret_problem
    from db.settings import source_secrets

    if source.auth == "none":
        return []
    scheme, found = source.auth.scheme, []
    for name in source.auth.secrets:
        secrets = source_secrets((name,))
        problem = next((problem for one in secrets if (problem := secret_problem(scheme, one))), None)
        found.append({"name": name, "is_set": bool(secrets), "problem": problem})
    return found


def _last_received(settings: "Settings") -> "dict[str, datetime]":
    """When each source was last heard; nothing where there is no database yet."""
    from db.reception import last_received
    from workers.commands.opening import is_missing, opened

    if is_missing(settings.database_url):
        return {}
    with opened() as desk, desk.database.reading() as connection:
        return last_received(connection)


def _shop(folder: Path | None = None) -> "tuple[Settings, Catalog, dict[str, str]]":
    """The settings, and the folder's files compiled as they are now, in force or not. Mails are left out."""
    from afterglow.language.catalog import compile_files, read_documents
    from db.settings import load_settings
    from workers.files import find_shop_folder, read_shop_folder

    settings = load_settings()
    files = read_shop_folder(folder or find_shop_folder(settings.shop_dir))
    files = {name: text for name, text in files.items() if name.startswith("flows/")}
    compiled = {(document.kind, document.name): document.body for document in compile_files(files)}
    return settings, read_documents(compiled), files


def _known(catalog: "Catalog", name: str) -> "Source":
    from afterglow.problems import did_you_mean
    from workers.commands.opening import UnknownError

    if name not in catalog.sources:
        raise UnknownError(
            f"There is no file flows/sources/{name}.yaml.{did_you_mean(name, catalog.sources)} "
            "`afterglow connect` lists those that are there."
        )
    return catalog.sources[name]


def _in_short(result: Any) -> str:
    from afterglow.mapping import Ignored, Unmappable

    match result:
        case Ignored(reason=reason):
            return f"ignored ({reason.rstrip('.')})"
        case Unmappable() as error:
            return f"parked, which does no harm ({error.reason.rstrip('.')})"
    return f"the event {result.event}"


# -- ping ----------------------------------------------------------------------------------------------------


@family.command()
def ping(
    source: Name,
    url: Annotated[str | None, typer.Option(help="Instead of the public address.")] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a harmless request as the provider would, and post it from here.

    202 (200 in SOAP) proves the way, the address and the secret. Exit status 1 for anything else.
    """
    import httpx

    from afterglow import connecting
    from workers.commands.console import complain, instant, say, say_json, say_next

    settings, catalog, _ = _shop()
    wanted = _known(catalog, source)
    public = f"{settings.public_url}/hooks/{source}"  # which some providers sign, however a request comes here
    url = url or public
    now = instant()
    body, trials = connecting.ping(wanted, now=now, known_events=catalog.events)
    headers = {"content-type": connecting.media_type(wanted), **_signature(wanted, public, body, now)}
    try:
        answer = httpx.post(url, content=body, headers=headers, timeout=ANSWER_S_MAX)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        status, problem = (
            None,
            f"Nobody answers at {url} ({type(error).__name__}); see that `afterglow run` runs there.",
        )
    else:
        status = answer.status_code
        problem = "" if status == connecting.success(wanted) else _told_refusal(wanted, url, answer)
    if as_json:
        becomes = [_in_short(trial.result) for trial in trials]
        say_json(
            {"source": source, "url": url, "status": status or None, "problem": problem or None, "becomes": becomes}
        )
    elif problem:
        complain(problem)
    else:
        say(f"{status}: {url} took a ping of {source}; the way, the address and the secret are right.")
        say(f"What it becomes: {'; '.join(_in_short(trial.result) for trial in trials)}.")
        say_next((f"afterglow inbox list --source {source} --state received --state ignored", "see it come in"))
    if problem:
        raise typer.Exit(1)


def _signature(source: "Source", url: str, body: bytes, now: "datetime") -> dict[str, str]:
    from afterglow.errors import AfterglowError
    from afterglow.signatures import sign
    from db.settings import source_secrets

    if source.auth == "none":
        return {}
    names = tuple(source.auth.secrets)
    secrets = source_secrets(names)
    if not secrets:
        raise AfterglowError(f"{' and '.join(names)} is not set here, so nothing can be signed for {source.name}.")
    try:
        return sign(source.auth.scheme, secrets[0], body, now, f"ping_{int(now.timestamp())}", uri=url)
    except ValueError as error:
        raise AfterglowError(f"The secret of {source.name} cannot be used: {error}") from None


def _told_refusal(source: "Source", url: str, answer: Any) -> str:
    variables = "" if source.auth == "none" else " or ".join(source.auth.secrets)
    why = {
        401: f"it has another secret in {variables} than is set here, or its clock is wrong",
        403: f"it has no secret in {variables}",
        404: f"no source {source.name} is in force there, or this is another server: `afterglow apply`, or "
        "AFTERGLOW_PUBLIC_URL",
        503: "it cannot write to its database just now",
    }.get(answer.status_code, "this is not what our hooks say, so something else answers there")
    return f"{answer.status_code} from {url}: {why}."


# -- try -----------------------------------------------------------------------------------------------------


@family.command("try")
def try_(
    source: Name,
    file: Annotated[Path, typer.Argument(help="A body, or {headers, body}.", exists=True, dir_okay=False)],
    header: Annotated[list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="May be repeated.")] = None,
    topic: Annotated[
        str | None, typer.Option(help="For the header that names the topic, where a source has one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show step by step what a payload would become; nothing is written.

    The shop's files are read from the folder, in force or not. Where there is a database, it says who is known.
    """
    from dataclasses import asdict

    from afterglow.captured import read_captured
    from afterglow.mapping.trial import tried
    from workers.commands.console import instant, say_json
    from workers.commands.opening import is_missing, opened
    from workers.trying import stories

    settings, catalog, files = _shop()
    wanted = _known(catalog, source)
    captured = read_captured(file.read_bytes(), str(file))
    headers = {**captured.headers, **_headers(header or []), **_topic(wanted, topic)}
    trials = tried(
        wanted,
        headers,
        captured.body,
        received_at=instant(),
        known_events=catalog.events,
        known_stages=catalog.stage_names,
    )
    name = f"flows/sources/{source}.yaml"
    has_database = not is_missing(settings.database_url)
    if has_database:
        with opened() as desk, desk.database.reading() as connection:
            now, secret = desk.now(connection), settings.secrets[0]
            found = stories(wanted, files[name], name, trials, catalog, now=now, secret=secret, connection=connection)
    else:
        found = stories(wanted, files[name], name, trials, catalog, now=instant(), secret=b"-", connection=None)
    if as_json:
        say_json({"source": source, "database": has_database, "elements": [asdict(story) for story in found]})
        return
    _say_stories(found, source, has_database=has_database)
    if wanted.header_names - headers.keys() and all(story.rule is None for story in found):
        from workers.commands.console import say

        say()
        say(f"The rules of {source} read headers that are not given: {', '.join(sorted(wanted.header_names))}.")


def _headers(given: list[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, colon, value = one.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f"'{one}' is no header; write it as 'name: value'.", param_hint="--header")
        found[name.strip().lower()] = value.strip()
    return found


def _topic(source: "Source", topic: str | None) -> dict[str, str]:
    if topic is None:
        return {}
    names = sorted(name for name in source.header_names if "topic" in name or "event-type" in name)
    if not names:
        raise typer.BadParameter(f"{source.name} reads no header that names a topic.", param_hint="--topic")
    return dict.fromkeys(names, topic)


def _say_stories(found: "list[Story]", source: str, *, has_database: bool) -> None:
    from workers.commands.console import say, say_next

    for number, story in enumerate(found, start=1):
        if len(found) > 1:
            say(f"Element {number} of {len(found)}", style="bold")
        _say_story(story, has_database=has_database)
        say()
    if not found:
        say("The list in it is empty: 202, and nothing comes of it.")
    if not has_database:
        say("There is no database yet, so that nobody is known and nothing ran before.")
    say_next((f"afterglow source test {source}", "hold kept payloads to what they must become"))


def _say_story(story: "Story", *, has_database: bool) -> None:
    from afterglow.captured import as_yaml
    from workers.commands.console import say, say_lines

    def step(name: str, text: str) -> None:
        say_lines([f"{name:10}{text}"])

    step("Key", story.key)
    if story.rule is None:
        step("Rule", "none held")
    else:
        step("Rule", story.rule.place)
        if story.rule.when:
            say(f"when {' '.join(story.rule.when.split())}", indent=10)
    if story.event is None:
        step("Becomes", f"nothing: it is {story.outcome}")
        say(story.reason or "", indent=10)
        return
    event = {name: value for name, value in story.event.items() if name != "key"}
    step("Event", event.pop("event"))
    for line in as_yaml(event).splitlines():
        say_lines([f"{'':10}{line}"])
    if story.outcome != "event":
        step("Then", story.outcome)
        say(story.reason or "", indent=10)
        return
    by = f", known by {story.found_by}" if story.found_by else ""
    step("Whose", f"{story.who}{by}")
    if story.remark:
        say(story.remark, indent=10)
    for n, flow in enumerate(story.flows):
        step("" if n else "Flows", f"{flow.flow} {'starts' if flow.starts else 'does not start'}")
        if flow.why:
            say(flow.why, indent=12)
    if not story.flows:
        step("Flows", "none begins with this event or stage")
    for n, run in enumerate(story.wakes):
        step("" if n else "Wakes", f"run {run.run} of {run.flow}, at {run.step or 'its beginning'}")


# -- test ----------------------------------------------------------------------------------------------------


@family.command("test")
def prove(
    source: Annotated[str | None, typer.Argument(help="One source; all of them if left out.")] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Write what happens now as what is expected.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hold captured payloads to what they must become.

    flows/sources/NAME/CASE.json is a payload, CASE.expected.yaml beside it what it becomes. Exit status 1 on a
    difference.
    """
    from workers.commands.console import complain, count, instant, say, say_json, say_lines, say_next
    from workers.files import find_shop_folder
    from workers.proving import proved

    settings, catalog, _ = _shop()
    folder = find_shop_folder(settings.shop_dir)
    names = sorted(catalog.sources) if source is None else [_known(catalog, source).name]
    cases = [case for name in names for case in proved(folder, catalog, name, now=instant(), accept=accept)]
    wrong = [case for case in cases if case.differs]
    if as_json:
        say_json(
            [
                {"file": case.file, "ok": not case.differs, "accepted": case.accepted, "diff": list(case.diff)}
                for case in cases
            ]
        )
    elif not cases:
        place = f"flows/sources/{source or 'NAME'}/"
        say(f"No payloads are kept yet: put one into {place} as CASE.json, then run this with --accept.")
        say_next(("afterglow inbox show ID --body --json > CASE.json", "keep a webhook that came"))
    else:
        for case in cases:
            if case.differs or case.accepted:
                say_lines([f"{case.file}: {case.sentence}", *(f"  {line}" for line in case.diff)])
        if wrong:
            complain(f"{len(wrong)} of {count(len(cases), 'payload')} not as expected; + is what happens now.")
            say_next(("afterglow source test --accept", "if this is how it should be from now on"))
        else:
            say(f"{count(len(cases), 'payload')}: {'accepted' if accept else 'each becomes what is expected'}.")
    if wrong:
        raise typer.Exit(1)
