"""Flows' tests in pytest: `pytest` in a shop's folder collects `flows/NAME.yaml` where it has `tests`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from afterglow.errors import AfterglowError

_NO_FLOWS = ("shop.yaml", "stages.yaml", "segments.yaml")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "FlowFile | None":
    """Collect the flow files of a shop that say what must come of them; other files are none of ours."""
    folder = file_path.parent
    if file_path.suffix != ".yaml" or folder.name != "flows" or file_path.name in _NO_FLOWS:
        return None
    if not (folder / "shop.yaml").is_file() or b"\ntests:" not in file_path.read_bytes():
        return None
    return FlowFile.from_parent(parent, path=file_path)


class FlowFile(pytest.File):
    """A flow file, as a collection of tests. The shop is compiled once for all of its flows."""

    def collect(self) -> Iterator["FlowItem"]:
        shop = self._shop()
        flow = shop.catalog.flows[self.path.stem]
        for test in flow.tests:
            yield FlowItem.from_parent(self, name=test.name, shop=shop, flow=flow, test=test)

    def _shop(self) -> Any:
        """The compiled shop. Where it does not compile, each problem is told with its own file."""
        from afterglow.problems import Problems
        from workers.testing import shop_under_test

        folder = self.path.parent.parent
        shops = self.config.stash.setdefault(_SHOPS, {})
        if folder not in shops:
            try:
                shops[folder] = shop_under_test(folder)
            except Problems as error:
                shops[folder] = error
        found = shops[folder]
        if not isinstance(found, Problems):
            return found
        mine = [problem for problem in found.problems if problem.file == f"flows/{self.path.name}"]
        if mine:
            raise Problems(mine)
        raise BrokenShopError("Other files of this shop have problems, so its flows cannot run; see `afterglow check`.")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What is wrong with the shop's files, without a traceback."""
        return str(excinfo.value) if isinstance(excinfo.value, AfterglowError) else super().repr_failure(excinfo)


class FlowItem(pytest.Item):
    """One test of a flow."""

    def __init__(self, *, shop: Any, flow: Any, test: Any, **rest: Any) -> None:
        super().__init__(**rest)
        self.shop, self.flow, self.test = shop, flow, test

    def runtest(self) -> None:
        """Live through it.

        Raises:
          FlowTestError: something came otherwise than expected.
        """
        from workers.commands.testing import failure
        from workers.testing import run

        tried = run(self.shop, self.flow, self.test)
        if not tried.is_kept:
            raise FlowTestError("\n".join(failure(tried)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The comparison alone; a traceback would lead into our code."""
        return str(excinfo.value) if isinstance(excinfo.value, FlowTestError) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the test stands."""
        line = self.flow.document.place((*self.test.path, "name"))[0]
        return self.path, line - 1, f"{self.flow.name}: {self.test.name}"


class BrokenShopError(AfterglowError):
    """Files of the shop have problems, so that none of its flows can run."""


class FlowTestError(AssertionError):
    """Something came otherwise than a flow's test expects."""


_SHOPS = pytest.StashKey[dict[Path, Any]]()
