"""What other files would mean before they come into force: which steps change, and for whom.

`changes` holds two versions of a flow against each other; `people` says what would become of one run, by living both
versions ahead with the functions that act on them; `programmes` counts stored history under two versions of a loyalty
programme. Pure, like all that they are made of.
"""

from afterglow.planning.changes import Field, FlowChange, StepChange, flow_change
from afterglow.planning.people import Inside, Mail, Prospect, prospect

__all__ = ["Field", "FlowChange", "Inside", "Mail", "Prospect", "StepChange", "flow_change", "prospect"]
