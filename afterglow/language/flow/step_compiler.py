"""From the list of steps in a file, with its nested branches, to the graph."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, time
from typing import Any, Final

from afterglow import strict_yaml
from afterglow.durations import Duration, parse_offset
from afterglow.language.actions import SurveyModel, compile_action
from afterglow.language.compiling import Compiler, Path
from afterglow.language.flow.graph import (
    Act,
    Awaited,
    Branch,
    If,
    Notify,
    Send,
    Split,
    Step,
    Stop,
    Task,
    Until,
    UntilDate,
    Wait,
    WaitFor,
    Way,
)
from afterglow.language.flow.models import (
    WEEKDAYS,
    ArrivedModel,
    ElifModel,
    IfModel,
    NotifyModel,
    OpeningModel,
    PieceModel,
    SendModel,
    SplitModel,
    StopModel,
    UntilModel,
    UseModel,
    WaitForModel,
    WaitModel,
)
from afterglow.language.pieces import file_of, located, names_of
from afterglow.language.step import StepBase
from afterglow.local_time import Opening
from afterglow.problems import did_you_mean

Piece = tuple[strict_yaml.Document, PieceModel]


class StepCompiler(Compiler):
    """Compiles the steps of one flow, keeping them by id. A piece that is None cannot be read, and is left out."""

    def __init__(self, document: strict_yaml.Document, pieces: Mapping[str, Piece | None]) -> None:
        super().__init__(document)
        self.steps: dict[str, Step] = {}
        self.pieces = pieces
        self.renames: dict[str, str] = {}
        self.documents = {name: piece[0] for name, piece in pieces.items() if piece is not None}

    def located(self, path: Path) -> tuple[strict_yaml.Document, Path]:
        return located(self.document, self.documents, path)

    def sequence(self, models: Sequence[Any], path: Path, *, after: str | None) -> str | None:
        """Compile a list of steps, last first, so that each knows its successor. The id of its first step."""
        following = next_date = after
        for n in range(len(models) - 1, -1, -1):
            if isinstance(models[n], UseModel):
                following = self.use(models[n].use, (*path, n, "use"), following)
                continue
            step = self.step(models[n], (*path, n), following)
            if step is None:
                continue
            if isinstance(step, UntilDate):
                step = replace(step, past=next_date) if models[n].if_past == "skip" else step
                next_date = step.id
            if step.id in self.steps:  # the other one stands further down
                self.say(self.steps[step.id].path, self.twice(step.id, path))
            self.steps[step.id] = step
            self.rename(models[n], step)
            following = step.id
        return following

    def use(self, name: str, path: Path, after: str | None) -> str | None:
        """The steps of a piece, as if they stood here; the id of the first."""
        if name not in self.pieces:
            self.say(path, f"There is no piece {file_of(name)}.")
            return after
        if name in names_of(path, self.document, self.documents):
            self.say(path, f"The piece '{name}' would use itself, without an end.")
            return after
        piece = self.pieces[name]
        return self.sequence(piece[1].steps, (*path, "steps"), after=after) if piece is not None else after

    def twice(self, step: str, path: Path) -> str:
        """That two steps have one id, the first of which stands at a path."""
        file, by = self.located(path)[0].file, self.located(self.steps[step].path)[0].file
        if by == self.document.file == file:
            return f"Two steps are called '{step}'; give this one another id."
        flow = f"flow '{self.document.file.rpartition('/')[2].removesuffix('.yaml')}'"
        if file == by:
            return f"Two steps of {flow} are called '{step}': it uses this piece twice, and a piece is used once."
        return f"Two steps of {flow} are called '{step}', here and in {file}; give one of them another id."

    def rename(self, model: StepBase, step: Step) -> None:
        """Keep what older versions called a step."""
        for old in [model.was] if isinstance(model.was, str) else model.was or ():
            if old in self.renames:
                self.say((*step.path, "was"), f"Two steps say that they were '{old}'; only one can be.")
            self.renames[old] = step.id

    def step(self, model: Any, path: Path, after: str | None) -> Step | None:
        match model:
            case SendModel():
                name = model.id or model.send.rpartition("/")[2]
                to = model.to.roles if model.to else frozenset()
                return Send(id=name, path=path, template=model.send, next=after, to=to)
            case SurveyModel():
                name = model.id or model.survey.rpartition("/")[2]
                return Send(id=name, path=path, template=model.survey, next=after, asks=True)
            case WaitModel():
                duration = self.duration(model.wait, (*path, "wait"))
                at = self.time_of_day(model.at, (*path, "at"))
                if duration is None:
                    return None
                if at is not None and duration.seconds:
                    self.say((*path, "at"), "'at' goes with a wait in days; hours are counted exactly.")
                return Wait(id=model.id, path=path, duration=duration, at=at, next=after)
            case UntilModel(until=OpeningModel()):
                return self.until(model, path, after)
            case UntilModel():
                return self.until_date(model, path, after)
            case WaitForModel():
                return self.wait_for(model, path, after)
            case IfModel():
                return self.if_(model, path, after)
            case SplitModel():
                branches = tuple(
                    Branch(
                        weight=branch.weight,
                        name=branch.name,
                        first=self.sequence(branch.steps, (*path, "split", n, "steps"), after=after),
                    )
                    for n, branch in enumerate(model.split)
                )
                if len({branch.name for branch in branches}) < len(branches):
                    self.say((*path, "split"), "Two branches of this split have the same name.")
                return Split(id=model.id, path=path, branches=branches)
            case NotifyModel():
                about = self.text(model.about, (*path, "about"))
                return Notify(
                    id=model.id or f"notify-{model.notify}",
                    path=path,
                    team=model.notify,
                    about=about,
                    task=self.task(model, path),
                    next=after,
                )
            case StopModel():
                reason = model.stop if isinstance(model.stop, str) else "the flow says so"
                return Stop(id=model.id or "stop", path=path, reason=reason)
        action = compile_action(self, model, path)
        return Act(id=action[0], path=path, does=action[1], next=after) if action else None

    def task(self, model: NotifyModel, path: Path) -> Task | None:
        within = self.duration(model.due, (*path, "due")) if model.due is not None else None
        if within is not None and not (within.is_calendar and (within.days or within.months)):
            self.say((*path, "due"), "A task is due on a day: write `due: 2 days`; hours are not counted.")
        if model.task is None:
            if model.due is not None:
                self.say((*path, "due"), "Only a task can be due: say what there is to do, such as `task: call`.")
            return None
        return Task(name=model.task, within=within)

    def if_(self, model: IfModel, path: Path, after: str | None) -> Step | None:
        ways = []
        parts: list[tuple[IfModel | ElifModel, Path]] = [(model, path)]
        parts += [(each, (*path, "elif", n)) for n, each in enumerate(model.elif_)]
        for part, where in parts:
            test = self.expression(part.if_, (*where, "if"))
            first = self.sequence(part.then, (*where, "then"), after=after)
            if test is not None:
                ways.append(Way(test=test, first=first, path=(*where, "if")))
        otherwise = self.sequence(model.else_, (*path, "else"), after=after)
        if len(ways) < 1 + len(model.elif_):
            return None
        return If(id=model.id, path=path, ways=tuple(ways), otherwise=otherwise)

    def until(self, model: UntilModel, path: Path, after: str | None) -> Step | None:
        for key in ("offset", "at", "if_past"):
            if getattr(model, key) is not None:
                self.say((*path, key), f"'{key}' goes with a date; a time of the week stands inside `until`.")
        assert isinstance(model.until, OpeningModel)
        opening = self.opening(model.until, (*path, "until"))
        return Until(id=model.id, path=path, opening=opening, next=after) if opening else None

    def opening(self, model: OpeningModel, path: Path) -> Opening | None:
        """The times of the week at which a wait may end; None where they cannot be read."""
        before = len(self.problems)
        given = [model.weekday] if isinstance(model.weekday, str) else model.weekday or []
        for name in given:
            if name not in WEEKDAYS:
                meant = did_you_mean(name, WEEKDAYS)
                self.say((*path, "weekday"), f"'{name}' is no day of the week; write it as monday.{meant}")
        days = frozenset(WEEKDAYS.index(name) for name in given or WEEKDAYS if name in WEEKDAYS)
        start, end = time(0), time(0)
        if model.at is not None and model.between is not None:
            self.say(path, "'at' is one moment of the day and 'between' a part of it; give one of the two.")
        elif model.at is None and model.between is None and not given:
            self.say(path, "Say until when: a weekday, 'at' a time of day, or 'between' two.")
        elif model.at is not None:
            at = self.time_of_day(model.at, (*path, "at"))
            return (
                Opening(weekdays=days, start=at, end=None) if at is not None and len(self.problems) == before else None
            )
        elif model.between is not None:
            parts = model.between.split("-")
            if len(parts) != 2:
                self.say(
                    (*path, "between"), f"'{model.between}' is not a part of the day; write it as \"22:00-06:00\"."
                )
                return None
            first, last = (self.time_of_day(part.strip(), (*path, "between")) for part in parts)
            if first is None or last is None:
                return None
            if first == last:
                self.say((*path, "between"), "Two equal times could mean always or never; leave 'between' out.")
            start, end = first, last
        return Opening(weekdays=days, start=start, end=end) if len(self.problems) == before else None

    def until_date(self, model: UntilModel, path: Path, after: str | None) -> Step | None:
        assert isinstance(model.until, str)
        fixed = _DAY.fullmatch(model.until)
        date = self.expression(f'"{model.until}"' if fixed else model.until, (*path, "until"))
        if fixed:
            self.collected((*path, "until"), lambda: _day(model.until))
        given = model.offset
        offset = self.collected((*path, "offset"), lambda: parse_offset(given)) if given is not None else Duration()
        at = self.time_of_day(model.at, (*path, "at"))
        if model.if_past is None:
            self.say(
                path,
                f"Say with `if_past` what '{model.id}' does where the date is missing or past: go on, skip, or stop.",
            )
        if at is not None and offset is not None and offset.seconds:
            self.say((*path, "at"), "'at' goes with an offset in days; hours are counted exactly.")
        if date is None or offset is None:
            return None
        stops = model.if_past == "stop"
        return UntilDate(id=model.id, path=path, date=date, offset=offset, at=at, stops=stops, next=after, past=after)

    def wait_for(self, model: WaitForModel, path: Path, after: str | None) -> Step | None:
        if isinstance(model.wait_for, str):
            only = ArrivedModel(event=model.wait_for, same=model.same, by=model.by, arrived=model.arrived)
            awaited = [self.awaited(only, path, after)]
        else:
            for key in ("same", "by", "arrived"):
                if getattr(model, key):
                    self.say((*path, key), f"Each of several events has its own '{key}'; write it beside the event.")
            awaited = [self.awaited(each, (*path, "wait_for", n), after) for n, each in enumerate(model.wait_for)]
            names = [each.event for each in awaited]
            for n, each in enumerate(awaited):
                if each.event in names[:n]:
                    self.say(
                        (*each.path, "event"), f"'{model.id}' waits for {each.event} twice; the first would be taken."
                    )
        timed_out = self.sequence(model.timed_out, (*path, "timed_out"), after=after)
        if model.for_up_to is None:
            self.say(path, f"'{model.id}' would wait for ever; say how long with `for_up_to`, such as `10 days`.")
            return None
        duration = self.duration(model.for_up_to, (*path, "for_up_to"))
        if duration is None:
            return None
        return WaitFor(id=model.id, path=path, awaited=tuple(awaited), for_up_to=duration, timed_out=timed_out)

    def awaited(self, model: ArrivedModel, path: Path, after: str | None) -> Awaited:
        first = self.sequence(model.arrived, (*path, "arrived"), after=after)
        same = self.expression(model.same, (*path, "same"))
        return Awaited(event=model.event, same=same, first=first, path=path, by_account=model.by == "account")

    def time_of_day(self, text: str | None, path: Path) -> time | None:
        if text is None:
            return None
        try:
            return time.fromisoformat(text)
        except ValueError:
            self.say(path, f"'{text}' is not a time of day; write it as \"10:00\".")
            return None


_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def _day(text: object) -> date:
    """The day that is written. Raises ValueError with a sentence for the author of the flow."""
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise ValueError(f"There is no day '{text}'; write it as 2026-11-27.") from None
