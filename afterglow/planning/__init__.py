"""What other files would mean before they come into force: which steps change, and for whom.

`changes` holds two versions of a flow against each other; `people` says what would become of one run, by living both
versions ahead with the functions that act on them; `beginnings` says for whom a flow begins by itself, and when;
`programmes` counts stored history under two versions of a loyalty
programme. Pure, like all that they are made of.
"""

from afterglow.planning.beginnings import Start, begins_otherwise, by_itself, start_of
from afterglow.planning.changes import Field, FlowChange, StepChange, flow_change
from afterglow.planning.people import Inside, Mail, Prospect, mails_at, prospect

__all__ = [
    "Field",
    "FlowChange",
    "Inside",
    "Mail",
    "Prospect",
    "Start",
    "StepChange",
    "begins_otherwise",
    "by_itself",
    "flow_change",
    "mails_at",
    "prospect",
    "start_of",
]
