"""Pictures of flows and of the journey: each step once, nothing on top of anything, and names that are only text."""

import json
import re
from dataclasses import replace
from functools import cache
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow.language.catalog import Catalog, compile_files, read_documents
from afterglow.language.flow.compiler import read_flow
from afterglow.language.flow.graph import Flow
from afterglow.language.shop import read_stages
from afterglow.pictures import Here, flow_picture, journey_picture
from afterglow.pictures.flows import arranged
from afterglow.pictures.journeys import Figures, stops_of
from afterglow.pictures.lettering import shortened, width, wrapped
from tests.driver import shop_files
from tests.examples import examples
from tests.web.shop_of_pages import HOSTILE

#: Beginnings of ids.
LONG = ("s", "an id of more words than any box will ever hold on one line ", "汉字🎁" * 9)
LEAVES = st.sampled_from(["send", "wait", "notify", "stop"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(
        st.sampled_from(["if", "wait_for", "split"]), st.lists(st.lists(inner, max_size=3), min_size=2, max_size=3)
    ),
    max_leaves=14,
)
FLOWS = st.lists(TREES, min_size=1, max_size=4)
WIDTHS = st.sampled_from([358, 700, 1200])


def written(trees: list[Any], **further: Any) -> Flow:
    """A flow with such steps, each with an id of its own."""
    count = 0

    def step(tree: Any) -> dict[str, Any]:
        nonlocal count
        count += 1
        id_ = f"{LONG[count % 3]}{count}"
        match tree:
            case "send":
                return {"send": "email/note", "id": id_}
            case "wait":
                return {"wait": "3 days", "id": id_, "at": "10:00"}
            case "notify":
                return {"notify": "desk", "id": id_}
            case "stop":
                return {"stop": "enough", "id": id_}
            case "if", [then, otherwise, *_]:
                test = 'order.total >= 100 and customer.country == "FR" and customer.orders > 3 or order.gift == "x"'
                return {"id": id_, "if": test, "then": list(map(step, then)), "else": list(map(step, otherwise))}
            case "wait_for", [arrived, late, *_]:
                branches = {"arrived": list(map(step, arrived)), "timed_out": list(map(step, late))}
                return {"id": id_, "wait_for": "order.delivered", "for_up_to": "10 days", **branches}
            case _:
                ways = [
                    {"name": f"way {n}", "weight": n + 1, "steps": list(map(step, s))} for n, s in enumerate(tree[1])
                ]
                return {"id": id_, "split": ways}

    model = {"flow": "f", "about": "A flow", "status": "draft", "starts": {"event": "order.paid"}}
    whole = model | {"steps": [step(tree) for tree in trees]} | further
    return read_flow(json.dumps(whole, ensure_ascii=False), "flows/f.yaml")


def texts(svg: str) -> list[str]:
    return [
        "".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]


@settings(max_examples=examples(80))
@given(FLOWS, WIDTHS)
def test_every_step_stands_once_and_inside_and_nothing_stands_on_anything(trees: list[Any], room: int):
    flow = written(trees)

    made = arranged(flow, room)

    assert sorted(box.id for box in made.boxes) == sorted(flow.steps)
    placed = [*made.boxes, *made.chips]
    for n, one in enumerate(placed):
        assert min(one.x, one.y) >= 0
        assert one.x + one.w <= made.width
        assert one.y + one.h <= made.height
        for other in placed[n + 1 :]:
            apart = one.x + one.w <= other.x or other.x + other.w <= one.x
            assert apart or one.y + one.h <= other.y or other.y + other.h <= one.y, (one, other)


@settings(max_examples=examples(50))
@given(FLOWS, WIDTHS)
def test_no_line_crosses_a_box_and_every_line_is_level_or_upright(trees: list[Any], room: int):
    made = arranged(written(trees), room)

    for way in made.ways:
        for (x, y), (to_x, to_y) in zip(way.corners, way.corners[1:], strict=False):
            assert x == to_x or y == to_y
            for box in made.boxes:
                within = max(min(x, to_x), box.x + 0.1) < min(max(x, to_x), box.x + box.w - 0.1) or (
                    x == to_x and box.x < x < box.x + box.w
                )
                beside = max(min(y, to_y), box.y + 0.1) < min(max(y, to_y), box.y + box.h - 0.1) or (
                    y == to_y and box.y < y < box.y + box.h
                )
                assert not (within and beside), (way, box)


@settings(max_examples=examples(50))
@given(FLOWS, WIDTHS)
def test_the_same_flow_is_the_same_picture(trees: list[Any], room: int):
    one, other = (flow_picture(written(trees), {}, width=room) for _ in range(2))

    assert one == other
    ElementTree.fromstring(one)


def test_a_picture_fits_a_phone_and_grows_only_where_words_could_not_be_read():
    for flow in catalog().flows.values():
        assert arranged(flow, 358).width <= 358, flow.name


def test_branches_waits_and_time_outs_are_named_as_the_file_names_them():
    told = " ".join(texts(flow_picture(catalog().flows["first-order"])))

    for words in (
        "arrived",
        "timed_out",
        "then",
        "else",
        "first-cups",
        "wait 3 days, at 10:00",
        "if answer.score <= 2",
    ):
        assert words in told


def test_people_stand_on_their_steps_and_lead_to_them():
    svg = flow_picture(
        catalog().flows["first-order"], {"arrival": Here(people=1200, troubled=3, href="/runs?flow=first-order&step=a")}
    )

    assert "1,200" in texts(svg)
    assert texts(svg).count("0") == len(catalog().flows["first-order"].steps) - 1
    assert "1,200 people, 3 of them parked here" in svg
    assert 'href="/runs?flow=first-order&amp;step=a"' in svg
    assert "0" not in texts(flow_picture(catalog().flows["first-order"])), "nobody counted"


@pytest.mark.parametrize("name", [*HOSTILE, "\x00\x1b[31m\ud7ff\uffff", "]]>", "<style>*{display:none}</style>"])
def test_hostile_names_are_text(name: str):
    given_ = {"id": name, "if": "order.total > 1", "then": [{"send": "email/note", "id": f"{name} 2"}]}
    flow = read_flow(
        json.dumps(
            {"flow": "f", "about": name, "status": "draft", "starts": {"event": "order.paid"}, "steps": [given_]}
        ),
        "flows/f.yaml",
    )

    svg = flow_picture(flow, {name: Here(people=1, href=f"/runs?step={name}")})

    elements = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
    assert elements <= {"svg", "title", "style", "g", "rect", "path", "circle", "text", "a"}
    assert not [
        attribute
        for element in ElementTree.fromstring(svg).iter()
        for attribute in element.attrib
        if attribute.startswith("on")
    ]


@cache
def catalog() -> Catalog:
    documents = compile_files(shop_files())
    return read_documents({(document.kind, document.name): document.body for document in documents})


def test_the_map_shows_every_stage_and_every_flow_once():
    shop = catalog()
    stops, rest = stops_of(shop)

    assert [stop.stage for stop in stops] == [stage.stage for stage in shop.stages]
    assert sorted(flow.name for stop in (*stops, rest) for flow in stop.flows) == sorted(shop.flows)
    assert "first-order" in [flow.name for stop in stops if stop.stage == "purchase" for flow in stop.flows]
    assert "payment-failed" in [flow.name for flow in rest.flows]
    for room in (358, 1200):
        told = texts(journey_picture(shop, width=room))
        assert [name for name in shop.flows if told.count(name) != 1 and name not in _mails(shop)] == []
        assert [stage.stage for stage in shop.stages if stage.stage not in told] == []


def _mails(shop: Catalog) -> set[str]:
    return {name.rpartition("/")[2] for name in shop.mails}


@pytest.mark.parametrize("stages", range(1, 12))
@pytest.mark.parametrize("room", [358, 700, 1200])
def test_a_loop_of_any_length_stays_inside_its_picture(stages: int, room: int):
    listed = "stages:\n" + "".join(f"  - stage: {name}\n    about: Words\n" for name in _named(stages))
    shop = replace(catalog(), stages=read_stages(listed, "flows/stages.yaml"))

    svg = journey_picture(shop, Figures(stages={}, flows={}), width=room)

    root = ElementTree.fromstring(svg)
    w, h = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [
        tuple(float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        for rect in root.iter("{http://www.w3.org/2000/svg}rect")
        if rect.attrib["class"].startswith("box")
    ]
    assert len(boxes) == len(shop.stages)
    assert all(x >= 0 and x + bw <= w and y >= 0 and y + bh <= h for x, y, bw, bh in boxes)
    assert len({(x, y) for x, y, _, _ in boxes}) == len(boxes)


def _named(count: int) -> list[str]:
    return [*(stage.stage for stage in catalog().stages), *(f"further-{n}" for n in range(count))][:count]


def test_words_are_shortened_and_broken_to_fit():
    assert width(shortened("a very long name indeed", 12, 60), 12) <= 60
    assert all(width(line, 12) <= 80 for line in wrapped("Rechtsschutzversicherungsgesellschaften and more", 12, 80, 3))
    assert len(wrapped("word " * 50, 12, 80, 3)) == 3
    assert re.search("…$", wrapped("word " * 50, 12, 80, 3)[-1])
