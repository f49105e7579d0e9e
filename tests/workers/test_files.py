"""Reading a shop's folder, and making a new one."""

import json
import stat
from pathlib import Path

import jsonschema_rs
import pytest

from afterglow import ROOT, strict_yaml
from afterglow.language.check import check_files
from afterglow.language.schema import json_schemas
from afterglow.problems import Problems
from workers.files import NoShopError, find_shop_folder, read_shop_folder
from workers.scaffold import FolderNotEmptyError, make_shop, with_secret


def test_a_new_shop_has_no_problems(tmp_path):
    folder = tmp_path / "ours"

    written = make_shop(folder)

    files = read_shop_folder(folder)
    assert check_files(files) == []
    assert set(files) <= set(written)
    assert {"flows/shop.yaml", "flows/sources/shopify.yaml", "templates/email/_layout.mjml"} <= files.keys()


def test_a_new_shop_keeps_its_secret_to_itself(tmp_path):
    make_shop(tmp_path / "one")
    make_shop(tmp_path / "two")

    env = tmp_path / "one" / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert ".env" in (tmp_path / "one" / ".gitignore").read_text().splitlines()
    assert env.read_text() != (tmp_path / "two" / ".env").read_text()
    assert "AFTERGLOW_SECRET=" not in (tmp_path / "one" / ".env.example").read_text().replace("#AFTERGLOW", "")


def test_the_secret_stands_where_the_example_names_it():
    assert with_secret("#A=1\n#AFTERGLOW_SECRET=\n#B=\n", r"s\1") == "#A=1\nAFTERGLOW_SECRET=s\\1\n#B=\n"


def test_nothing_is_written_into_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(FolderNotEmptyError, match="not empty"):
        make_shop(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_will_do(tmp_path):
    assert "README.md" in make_shop(tmp_path)


def test_a_new_shop_brings_a_check_for_every_push_and_schemas_for_editors(tmp_path):
    make_shop(tmp_path)

    workflow = strict_yaml.load((tmp_path / ".github/workflows/check.yaml").read_text(), "check.yaml").data
    assert {"run": "afterglow check --format github"} in workflow["jobs"]["check"]["steps"]
    settings = json.loads((tmp_path / ".vscode/settings.json").read_text())
    for schema in settings["yaml.schemas"]:
        assert json.loads((tmp_path / schema).read_text())["$id"].startswith("urn:afterglow:schema:")


def test_schemas_accept_every_file_of_the_sample_shop():
    schemas = json_schemas()
    for name, text in read_shop_folder(ROOT).items():
        if name.endswith(".yaml"):
            kind = _kind(name)
            jsonschema_rs.validator_for(json.dumps(schemas[kind])).validate(strict_yaml.load(text, name).data)


def test_schemas_refuse_unknown_keys_and_describe_the_known_ones():
    schema = json_schemas()["flow"]

    flow = {"flow": "a", "about": "b", "status": "live", "starts": {"event": "e"}, "steps": [{"sned": "email/x"}]}
    assert not jsonschema_rs.is_valid(schema, flow)
    assert all("description" in field for field in schema["properties"].values())


def _kind(name: str) -> str:
    if name.startswith("flows/sources/"):
        return "source"
    if name.startswith("flows/programmes/"):
        return "programme"
    return Path(name).stem if Path(name).stem in ("shop", "stages", "segments") else "flow"


def test_the_setting_comes_first_then_this_folder_then_the_sample_shop(tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    make_shop(mine)
    make_shop(other)

    assert find_shop_folder(other, here=mine) == other
    assert find_shop_folder(here=mine) == mine
    assert find_shop_folder(here=tmp_path) == ROOT


def test_a_setting_without_a_shop_is_refused(tmp_path):
    with pytest.raises(NoShopError, match="holds no folder flows/"):
        read_shop_folder(tmp_path / "nowhere")


def test_every_file_that_cannot_be_read_is_named_with_its_reason(tmp_path):
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "shop.yaml").write_bytes(b"name: Ember\nurl: caf\xe9\n")
    (flows / "large.yaml").write_bytes(b"#" * (1024 * 1024 + 1))
    (flows / "welcome.yml").write_text("flow: welcome\n")
    (flows / "gone.yaml").symlink_to(tmp_path / "nowhere")
    (flows / ".#draft.yaml").write_text("an editor's lock")

    with pytest.raises(Problems) as raised:
        read_shop_folder(tmp_path)

    assert str(raised.value).splitlines() == [
        "flows/gone.yaml:1:1: This file cannot be read: No such file or directory.",
        "flows/large.yaml:1:1: This file is larger than 1024 KB.",
        "flows/shop.yaml:2:9: This is not UTF-8; save the file as UTF-8.",
        "flows/welcome.yml:1:1: Files here end in .yaml; rename it.",
    ]


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "shop.yaml").write_bytes(b"\xef\xbb\xbfname: Ember\r\n")

    assert read_shop_folder(tmp_path) == {"flows/shop.yaml": "name: Ember\r\n"}
