"""The JSON Schemas that editors complete and explain files by: whole, closed, and of one mind with what loads."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from afterglow import ROOT
from afterglow.language.flow.models import VERBS, WEEKDAYS
from afterglow.language.schema import json_schemas, schema_of
from afterglow.strict_yaml import load

SCHEMAS = json_schemas()
#: Groups in which any key may stand: attributes that shop.yaml declares, and what an event carries.
OPEN = {"CustomerModel", "HappensModel", "CustomerRule", "AccountRule"}


def groups(part: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every group of keys in a schema, with its name."""
    if isinstance(part, list):
        for inner in part:
            yield from groups(inner, name)
    if isinstance(part, dict):
        if "properties" in part:
            yield name, part
        for key, inner in part.items():
            if key in ("properties", "$defs"):
                for named, value in inner.items():
                    yield from groups(value, named)
            else:
                yield from groups(inner, name)


GROUPS = [(kind, name, group) for kind, schema in SCHEMAS.items() for name, group in groups(schema, kind)]


@pytest.mark.parametrize(("kind", "name", "group"), GROUPS, ids=[f"{kind}-{name}" for kind, name, _ in GROUPS])
def test_every_key_of_every_file_is_explained_and_no_other_key_is_taken(kind, name, group):
    definitions = SCHEMAS[kind].get("$defs", {})
    silent = [
        key
        for key, value in group["properties"].items()
        if not (
            value.get("description") or definitions.get(value.get("$ref", "").rpartition("/")[2], {}).get("description")
        )
    ]

    assert silent == []
    assert group.get("description"), "an editor shows what the group is for"
    assert name in OPEN or group.get("additionalProperties") is False


def test_closed_values_are_offered():
    flow, shop, source = (SCHEMAS[kind]["$defs"] for kind in ("flow", "shop", "source"))

    assert list(WEEKDAYS) in [part.get("enum") for part in flow["OpeningModel"]["properties"]["weekday"]["anyOf"]]
    assert SCHEMAS["flow"]["properties"]["status"]["enum"] == ["draft", "live", "paused"]
    assert "standard_webhooks" in source["Auth"]["properties"]["scheme"]["enum"]
    assert "week" in json.dumps(shop["LeaderboardsModel"]["properties"]["seasons"])
    assert "yes-no" in json.dumps(SCHEMAS["shop"]["properties"]["events"])


@pytest.mark.parametrize("verb", VERBS)
def test_a_step_can_be_put_in_whole_and_what_is_put_in_is_a_step(verb):
    step = SCHEMAS["flow"]["$defs"][VERBS[verb].__name__]

    for snippet in step["defaultSnippets"]:
        assert snippet["label"] == verb
        filled = re.sub(r"\$\{\d:([^}]*)\}", r"\1", json.dumps(snippet["body"])).replace('\\"', "")
        assert steps_are_valid([json.loads(filled)])


def test_steps_are_put_into_flows_alone():
    with_snippets = {kind for kind, schema in SCHEMAS.items() if "defaultSnippets" in json.dumps(schema)}

    assert with_snippets == {"flow"}


def steps_are_valid(steps: Any) -> bool:
    flow = {"flow": "a", "about": "b", "status": "live", "starts": {"event": "e"}, "steps": steps}
    return bool(jsonschema_rs.is_valid(SCHEMAS["flow"], flow))


SHIPPED = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("flows/**/*.yaml"))]


@pytest.mark.parametrize("name", [name for name in SHIPPED if schema_of(name)])
def test_every_file_of_the_sample_shop_is_valid(name):
    jsonschema_rs.validate(SCHEMAS[schema_of(name)], load((ROOT / name).read_text(), name).data)


def test_only_what_a_captured_webhook_must_become_has_no_schema():
    assert all(name.endswith(".expected.yaml") for name in SHIPPED if schema_of(name) is None)


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
EXAMPLES = [
    (page.relative_to(ROOT).as_posix(), block)
    for page in PAGES
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
]
#: Facts for a preview, which are no file of the shop.
FACTS = ("docs/seeing.md",)


@pytest.mark.parametrize(("page", "block"), EXAMPLES, ids=[f"{page}-{n}" for n, (page, _) in enumerate(EXAMPLES)])
def test_every_example_of_the_documentation_is_valid(page, block):
    if page in FACTS:
        return
    data = load(block, page).data
    if isinstance(data, list):
        assert steps_are_valid(data)
        return
    whole = {"flow": "flow", "programme": "programme", "stages": "stages", "source": "source"}
    for key, kind in whole.items():
        if {key, "about"} <= data.keys():
            jsonschema_rs.validate(SCHEMAS[kind], data)
            return
    assert any(jsonschema_rs.is_valid(part, data) for part in parts_of_files(set(data)))


def parts_of_files(keys: set[str]) -> Iterator[dict[str, Any]]:
    """Every schema of a group that knows these keys, for a part of it that stands alone."""
    for kind, _, group in GROUPS:
        if keys <= group["properties"].keys():
            yield {**group, "$defs": SCHEMAS[kind].get("$defs", {}), "required": []}
