"""Finding the tests of flow files, and running them: for `afterglow test` and for pytest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from afterglow.errors import AfterglowError
from afterglow.language.catalog import compile_files, read_documents
from afterglow.language.check.supply import world
from afterglow.language.check.testing import check_tests
from afterglow.language.flow.compiler import read_flow
from afterglow.language.flow.graph import Flow
from afterglow.language.pieces import joined, pieces_in
from afterglow.language.testing import FlowTest
from afterglow.problems import Problem, Problems
from afterglow.testing import Lived, ShopUnderTest, Verdict, judge, live
from afterglow.testing.memory import CannotLiveError
from workers.files import find_shop_folder, read_shop_folder


class NotAFlowError(AfterglowError):
    """This is neither a flow's file nor the folder of a shop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """A test that ran. `problem` says why it could not, and then there is no verdict; `took_ms` is how long it took."""

    file: str
    line: int
    flow: Flow
    test: FlowTest
    took_ms: float
    lived: Lived | None = None
    verdict: Verdict | None = None
    problem: str | None = None

    @property
    def is_kept(self) -> bool:
        """Whether everything came as expected."""
        return self.verdict is not None and self.verdict.is_kept


def shop_of(path: Path) -> tuple[Path, str | None]:
    """The shop's folder that a path belongs to, and the flow that it names; None for all of them.

    Raises:
      NotAFlowError: the path is none of a shop's.
    """
    if path.is_dir():
        if (path / "flows").is_dir():
            return path, None
        if path.resolve().name == "flows":
            return path.resolve().parent, None
    elif path.is_file() and path.suffix == ".yaml" and path.resolve().parent.name == "flows":
        return path.resolve().parent.parent, path.stem
    raise NotAFlowError(f"{path} is neither flows/NAME.yaml nor the folder of a shop; name one of these.")


def shop_under_test(folder: Path) -> ShopUnderTest:
    """A shop's files, compiled to be tested.

    Raises:
      Problems: everything that is wrong with the files or with what tests name.
    """
    files = read_shop_folder(folder)
    documents = compile_files(files)
    catalog = read_documents({(one.kind, one.name): one.body for one in documents if one.kind != "flow"})
    pieces = pieces_in(files)
    flows = [(one.name, f"flows/{one.name}.yaml") for one in documents if one.kind == "flow"]
    catalog = replace(catalog, flows={name: read_flow(joined(files[file], pieces), file) for name, file in flows})
    whole = world(catalog.shop, catalog.sources.values(), whole=True)
    problems: list[Problem] = []
    for flow in catalog.flows.values():
        problems += check_tests(flow, whole, catalog.shop, catalog.stage_names, catalog.flows)
    if problems:
        raise Problems(problems)
    return ShopUnderTest(catalog=catalog)


def run(shop: ShopUnderTest, flow: Flow, test: FlowTest) -> Tried:
    """Live through one test and judge it."""
    began = perf_counter()
    lived, verdict, problem = None, None, None
    try:
        lived = live(shop, flow, test)
        verdict = judge(test, lived)
    except CannotLiveError as error:
        problem = str(error)
    return Tried(
        file=flow.document.file,
        line=flow.document.place((*test.path, "name"))[0],
        flow=flow,
        test=test,
        took_ms=(perf_counter() - began) * 1000,
        lived=lived,
        verdict=verdict,
        problem=problem,
    )


def run_all(paths: Sequence[Path], containing: str, shop_dir: str | Path = "") -> Iterator[Tried]:
    """Run the tests of these files and shops, in the order of the files.

    Args:
      paths: empty: the shop that is found as `find_shop_folder` says.
      containing: only tests whose name, or whose flow's name, contains this, whatever the case.
    """
    wanted: dict[Path, set[str | None]] = {}
    for path in paths or [find_shop_folder(shop_dir)]:
        folder, name = shop_of(path)
        wanted.setdefault(folder, set()).add(name)
    for folder, names in wanted.items():
        shop = shop_under_test(folder)
        for flow in shop.catalog.flows.values():
            if None not in names and flow.name not in names:
                continue
            for test in flow.tests:
                if containing.lower() in f"{flow.name} {test.name}".lower():
                    yield run(shop, flow, test)
