"""Read the files of flows and pieces, and compile a flow."""

from collections.abc import Mapping
from functools import lru_cache

from afterglow import strict_yaml
from afterglow.durations import Duration
from afterglow.language.actions import Redeem
from afterglow.language.company import names_of as names_of_event
from afterglow.language.compiling import whole
from afterglow.language.flow.graph import Act, Awaited, Flow, Goal, Notify, Reenter, Send, Step, StopRule, Task, WaitFor
from afterglow.language.flow.models import FlowModel, GoalModel, PieceModel, StopsModel
from afterglow.language.flow.step_compiler import Piece, StepCompiler
from afterglow.language.pieces import divided, file_of
from afterglow.language.rails import Rate, parse_rate
from afterglow.language.segment import crossing
from afterglow.language.shop import parse_holdout
from afterglow.language.starts import start_of
from afterglow.language.testing import compile_tests
from afterglow.problems import Problem, Problems


@lru_cache(maxsize=2048)
def read_flow(text: str, file: str) -> Flow:
    """Compile a flow file, with the pieces that it uses behind it: see `afterglow.language.pieces.joined`.

    Raises:
      Problems: everything that is wrong with the file by itself, and with its pieces, each with its place.
    """
    own, texts = divided(text)
    document = strict_yaml.load(own, file)
    pieces = {name: read_piece(piece, file_of(name)) for name, piece in texts.items()}
    return whole(sketch_flow(document, strict_yaml.validated(document, FlowModel), pieces))


@lru_cache(maxsize=512)
def read_piece(text: str, file: str) -> Piece:
    """Read the file of a piece. What its steps come to shows in the flows that use it.

    Raises:
      Problems: everything that is wrong with the shape of it.
    """
    document = strict_yaml.load(text, file)
    model = strict_yaml.validated(document, PieceModel)
    if file != file_of(model.piece):
        message = f"The file is called {file.rpartition('/')[2]} and the piece in it '{model.piece}'; make them equal."
        raise Problems([document.problem(("piece",), message)])
    return document, model


def sketch_flow(
    document: strict_yaml.Document, model: FlowModel, pieces: Mapping[str, Piece | None]
) -> tuple[Flow, tuple[Problem, ...]]:
    """A flow as far as it compiles, and why the rest does not. Only for finding further problems: steps may lack."""
    compiler = _Compiler(document, pieces)
    return compiler.flow(model), tuple(compiler.problems)


class _Compiler(StepCompiler):
    """Compiles one flow: its steps, and what it says besides."""

    def flow(self, model: FlowModel) -> Flow:
        stops = model.stops if isinstance(model.stops, list) else [model.stops]
        start = start_of(self, model.starts)
        first = self.sequence(model.steps, ("steps",), after=None)
        for old, step_id in self.renames.items():
            if old in self.steps:
                self.say((*self.steps[step_id].path, "was"), f"'{old}' is the id of another step; it was not renamed.")
        rules = tuple(rule for n, stop in enumerate(stops) if (rule := self.stop(stop, n, model)))
        waits = [step for step in self.steps.values() if isinstance(step, WaitFor)]
        heard: list[StopRule | Awaited] = [*rules, *(awaited for step in waits for awaited in step.awaited)]
        return Flow(
            name=model.flow,
            about=model.about,
            status=model.status,
            owner=model.owner,
            stage=model.starts.stage,
            event=start.event,
            segment=start.segment,
            when=self.expression(model.starts.when, ("starts", "when")),
            once_per=self.expression(model.once_per, ("once_per",)),
            per_account=self.per_account(model),
            to=model.to.roles if model.to else frozenset(),
            reenter=self.reenter(model),
            stops=rules,
            goal=self.goal(model.goal) if model.goal else None,
            holdout=self.collected(("holdout",), lambda: parse_holdout(model.holdout)),
            only_if=self.expression(model.only_if, ("only_if",)),
            topic=model.topic,
            quiet_hours=self.collected(("quiet_hours",), model.quiet_hours.compiled) if model.quiet_hours else None,
            caps=tuple(
                cap for n, given in enumerate(model.caps) if (cap := self.collected(("caps", n), given.compiled))
            ),
            blackouts=tuple(
                days
                for n, given in enumerate(model.blackout)
                if (days := self.collected(("blackout", n, "days"), given.compiled))
            ),
            rate=self.rate(model.rate),
            keep_for=self.duration(model.keep_for, ("keep_for",)) if model.keep_for else None,
            late=model.late,
            loser=model.loser,
            ends_with_stage=any(stop.stage is not None for stop in stops),
            first=first,
            steps=self.steps,
            document=self.document,
            pieces=self.documents,
            listens_to=frozenset(
                name for one in heard for name in names_of_event(one.event, by_account=one.by_account)
            ),
            heard_by_account=frozenset(one.event for one in heard if one.by_account),
            asks_for=frozenset(answer for step in self.steps.values() for answer in _answers(step)),
            moves=model.on_edit == "move",
            renames=self.renames,
            tests=compile_tests(self, model.tests),
            occasion=start.occasion,
        )

    def per_account(self, model: FlowModel) -> bool:
        """Whether the flow runs once for an account, which says what may stand beside that."""
        if model.run_per == "account":
            if model.reenter is not None:
                self.say(("reenter",), "A flow that runs per account runs once for each; leave out `reenter`.")
            return True
        if model.to is not None:
            self.say(("to",), "Only a flow that runs per account has others to run for: say `run_per: account`.")
        for step in self.steps.values():
            if isinstance(step, Send) and step.to:
                self.say((*step.path, "to"), "Only a flow that runs per account chooses roles: say `run_per: account`.")
        return False

    def stop(self, model: StopsModel, n: int, flow: FlowModel) -> StopRule | None:
        """The event that ends a run; None where it is the end of the stage."""
        path = ("stops", n) if isinstance(flow.stops, list) else ("stops",)
        if sum(one is not None for one in (model.event, model.stage, model.segment, model.leaves)) != 1:
            ways = "by an event, by `stage: left`, or by a segment that is entered (`segment`) or left (`leaves`)"
            self.say(path, f"A run is stopped {ways}: give one of them.")
        event, segment = crossing(model.segment, model.leaves) or (model.event, None)
        if model.stage is not None and flow.starts.stage is None:
            self.say((*path, "stage"), "Only a flow that starts by a stage can end when it is left.")
        same = self.expression(model.same, (*path, "same"))
        if segment is not None and model.same is not None:
            self.say((*path, "same"), "Entering or leaving a segment carries nothing to compare; leave 'same' out.")
        if event is None:
            return None
        return StopRule(event=event, same=same, segment=segment, path=path, by_account=model.by == "account")

    def rate(self, text: str | None) -> Rate | None:
        return self.collected(("rate",), lambda: parse_rate(text)) if text is not None else None

    def goal(self, model: GoalModel) -> Goal | None:
        within = self.duration(model.within, ("goal", "within"))
        same = self.expression(model.same, ("goal", "same"))
        return Goal(event=model.event, within=within, same=same) if within else None

    def reenter(self, model: FlowModel) -> Reenter | None:
        given = model.reenter or "never"
        if model.reenter is not None and model.once_per is None:
            self.say(
                ("reenter",), "'reenter' says when the same `once_per` may run again; give both, such as customer.id."
            )
        if given == "never":
            return None
        if given == "always":
            return Reenter(after=Duration(), text="at any time")
        if not given.startswith("after "):
            self.say(("reenter",), f"'{given}' is not a time to run again: write never, always, or `after 30 days`.")
            return None
        after = self.duration(given.removeprefix("after "), ("reenter",))
        return Reenter(after=after, text=f"{given.removeprefix('after ')} after that began") if after else None


def _answers(step: Step) -> tuple[str, ...]:
    """The events of ours that answer what a step asks."""
    match step:
        case Send(asks=True):
            return ("survey.answered",)
        case Act(does=Redeem()):
            return ("reward.redeemed", "reward.refused")
        case Notify(task=Task()):
            return ("task.done",)
        case _:
            return ()
